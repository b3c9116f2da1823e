_base_ = [
    '../_base_/models/conv4.py',
    '../_base_/datasets/omniglot.py',
    '../_base_/schedules/omniglot_15e.py',
    '../_base_/default_runtime.py',
]

model = dict(head=dict(loss=dict(type='HISTLoss', num_classes=964, embed_dim=128, tau=32, alpha=1.1)))
# Distributions and hypergraph network learn 10 times as fast as the embedder; directions of length 1 do not decay.
optim_wrapper = dict(paramwise_cfg=dict(custom_keys={'head.loss_fn': dict(lr_mult=10, decay_mult=0)}))
