# Fine-tuning on small sets of photographs: 10 epochs.
optim_wrapper = dict(optimizer=dict(type='Adam', lr=1e-4, weight_decay=1e-5))
param_scheduler = dict(type='MultiStepLR', milestones=[7, 9], gamma=0.2)
train_cfg = dict(by_epoch=True, max_epochs=10, val_interval=10)
val_cfg = dict()
test_cfg = dict()
auto_scale_lr = dict(base_batch_size=64)
