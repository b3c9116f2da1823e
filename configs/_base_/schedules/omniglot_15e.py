# 15 passes over Omniglot's training classes (151 updates each): some minutes on two cores.
optim_wrapper = dict(optimizer=dict(type='Adam', lr=1e-3, weight_decay=1e-5))
param_scheduler = dict(type='MultiStepLR', milestones=[9, 12], gamma=0.2)
train_cfg = dict(by_epoch=True, max_epochs=15, val_interval=5)
val_cfg = dict()
test_cfg = dict()
auto_scale_lr = dict(base_batch_size=128)
