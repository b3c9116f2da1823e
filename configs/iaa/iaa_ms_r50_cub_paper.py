# The optimizer as the paper's text has it (Sec. VI-B2): lr 1e-4, output layer x10, weight decay 4e-4, x0.2 at epochs 40
# and 60, lambda constant, statistics every 4 epochs.
_base_ = ['./iaa_ms_r50_cub.py', '../_base_/presets/head-lr-x10.py']

optim_wrapper = dict(optimizer=dict(lr=1e-4, weight_decay=4e-4), paramwise_cfg={{_base_.head_lr_x10}})
param_scheduler = dict(milestones=[40, 60])
model = dict(head=dict(sources=dict(iaa=dict(lam_schedule='constant', update_interval=4))))
