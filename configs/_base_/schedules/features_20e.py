# 300 updates of the layers behind a frozen backbone; scored once, after the last.
_base_ = '../default_runtime.py'

optim_wrapper = dict(optimizer=dict(type='Adam', lr=1e-3, weight_decay=1e-5))
param_scheduler = dict(type='CosineAnnealingLR', T_max=20, eta_min_ratio=0.01)
train_cfg = dict(by_epoch=True, max_epochs=20, val_interval=20)
val_cfg = dict()
test_cfg = dict()
# Writing a checkpoint to the disk takes as long as several epochs.
default_hooks = dict(checkpoint=dict(interval=20))
visualizer = dict(vis_backends=[dict(type='LocalVisBackend')])
