# As dcplus-fixed_margin_r50.py with learned masks: 100 times the learning rate (1e-3), diversity term 0.01.
_base_ = './dcplus-fixed_margin_r50.py'

model = dict(neck=dict(learned=True), head=dict(regularizers=dict(diversity=dict(type='MaskDiversity', weight=0.01))))
optim_wrapper = dict(paramwise_cfg=dict(custom_keys={'masks': dict(lr_mult=100)}))
