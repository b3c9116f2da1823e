_base_ = [
    '../_base_/models/conv4.py',
    '../_base_/datasets/omniglot.py',
    '../_base_/schedules/omniglot_15e.py',
    '../_base_/default_runtime.py',
]

model = dict(head=dict(loss=dict(type='NPairsLoss', scale=1.0, learn_scale=True)))
# The scale learns at a rate of 1 (1000 times the schedule's 1e-3) and does not decay.
optim_wrapper = dict(paramwise_cfg=dict(custom_keys={'.scale': dict(lr_mult=1000, decay_mult=0)}))
