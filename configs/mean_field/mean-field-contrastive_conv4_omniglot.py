_base_ = [
    '../_base_/models/conv4.py',
    '../_base_/datasets/omniglot.py',
    '../_base_/schedules/omniglot_15e.py',
    '../_base_/default_runtime.py',
]

model = dict(head=dict(loss=dict(type='MeanFieldContrastiveLoss', num_classes=964, embed_dim=128)))
# Fields of length 1 learn 10 times as fast as the network, and do not decay.
optim_wrapper = dict(paramwise_cfg=dict(custom_keys={'head.loss_fn': dict(lr_mult=10, decay_mult=0)}))
