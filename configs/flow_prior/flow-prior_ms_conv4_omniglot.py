_base_ = [
    '../_base_/models/conv4.py',
    '../_base_/datasets/omniglot.py',
    '../_base_/schedules/omniglot_15e.py',
    '../_base_/default_runtime.py',
]

model = dict(
    head=dict(
        loss=dict(type='MultiSimilarityLoss'),
        sources=dict(prior=dict(type='FlowPrior', num_classes=964, embed_dim=128, onset=0.2)),
    )
)
# The flow learns at the rate of the network: its density follows the embeddings as they change. It does not decay.
optim_wrapper = dict(paramwise_cfg=dict(custom_keys={'head.sources.prior': dict(lr_mult=1, decay_mult=0)}))
