_base_ = [
    '../_base_/models/mlp.py',
    '../_base_/datasets/features.py',
    '../_base_/schedules/features_20e.py',
]

# One proxy for each of the 40 training classes of grocery, as wide as the embedding.
model = dict(head=dict(loss=dict(type='ProxyNCALoss', num_classes=40, embed_dim=128)))
# The learning rate is the best of 3e-4, 1e-3 and 3e-3 on validation classes (experiments/features_val.yml).
# Proxies learn and decay as the network does.
optim_wrapper = dict(
    optimizer=dict(lr=3e-4), paramwise_cfg=dict(custom_keys={'head.loss_fn': dict(lr_mult=1, decay_mult=1)})
)
