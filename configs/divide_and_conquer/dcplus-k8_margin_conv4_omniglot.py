# Learned masks, kept apart by the diversity term. They learn 10 times as fast as the rest, chosen on validation classes
# among 1, 10 and 30 (experiments/omniglot_masks_val.yml); the release's 100 belongs to its rate of 1e-5.
_base_ = './dcplus-k8-fixed_margin_conv4_omniglot.py'

model = dict(neck=dict(learned=True), head=dict(regularizers=dict(diversity=dict(type='MaskDiversity', weight=0.01))))
optim_wrapper = dict(paramwise_cfg=dict(custom_keys={'masks': dict(lr_mult=10)}))
