_base_ = [
    '../_base_/models/conv4.py',
    '../_base_/datasets/omniglot.py',
    '../_base_/schedules/omniglot_15e.py',
    '../_base_/default_runtime.py',
]

# One proxy for each of the 964 training classes, as wide as the embedding.
model = dict(head=dict(loss=dict(type='ProxyNCALoss', num_classes=964, embed_dim=128)))
# Proxies of length 1 learn 10 times as fast as the network, and do not decay.
optim_wrapper = dict(paramwise_cfg=dict(custom_keys={'head.loss_fn': dict(lr_mult=10, decay_mult=0)}))
