_base_ = [
    '../_base_/models/conv4.py',
    '../_base_/datasets/omniglot.py',
    '../_base_/schedules/omniglot_15e.py',
    '../_base_/default_runtime.py',
]

model = dict(head=dict(loss=dict(type='SigmoidLoss', scale=10.0, bias=-10.0)))
# Temperature and bias do not decay.
optim_wrapper = dict(
    paramwise_cfg=dict(custom_keys={'.log_scale': dict(decay_mult=0), '.logit_bias': dict(decay_mult=0)})
)
