# For adapters of a frozen transformer: AdamW at one rate for adapters and embedding layer, x0.1 after epoch 15. Our
# choice, never validated.
optim_wrapper = dict(optimizer=dict(type='AdamW', lr=5e-4, weight_decay=1e-4))
param_scheduler = dict(type='MultiStepLR', milestones=[15])
train_cfg = dict(by_epoch=True, max_epochs=20, val_interval=5)
val_cfg = dict()
test_cfg = dict()
