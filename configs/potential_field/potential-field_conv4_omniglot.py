_base_ = [
    '../_base_/models/conv4.py',
    '../_base_/datasets/omniglot.py',
    '../_base_/schedules/omniglot_15e.py',
    '../_base_/default_runtime.py',
]

model = dict(
    head=dict(
        loss=dict(type='PotentialFieldLoss', num_classes=964, embed_dim=128, proxies_per_class=2, alpha=4, delta=0.2)
    )
)
# Proxies of length 1 learn 100 times as fast as the network, and do not decay.
optim_wrapper = dict(paramwise_cfg=dict(custom_keys={'head.loss_fn': dict(lr_mult=100, decay_mult=0)}))
