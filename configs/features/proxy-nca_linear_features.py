_base_ = [
    '../_base_/models/linear.py',
    '../_base_/datasets/features.py',
    '../_base_/schedules/features_20e.py',
]

# One proxy for each of the 40 training classes of grocery, as wide as the embedding.
model = dict(head=dict(loss=dict(type='ProxyNCALoss', num_classes=40, embed_dim=128)))
# Proxies learn and decay as the layer does: 10 and 100 times its rate were no better on validation classes
# (experiments/features_losses_val.yml).
optim_wrapper = dict(paramwise_cfg=dict(custom_keys={'head.loss_fn': dict(lr_mult=1, decay_mult=1)}))
