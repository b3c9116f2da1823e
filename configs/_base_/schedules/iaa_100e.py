# The released recipe: Adam, one parameter group, x0.2 after epochs 40, 60 and 80.
optim_wrapper = dict(optimizer=dict(type='Adam', lr=5e-5, weight_decay=1e-5))
param_scheduler = dict(type='MultiStepLR', milestones=[40, 60, 80], gamma=0.2)
train_cfg = dict(by_epoch=True, max_epochs=100, val_interval=5)
val_cfg = dict()
test_cfg = dict()
