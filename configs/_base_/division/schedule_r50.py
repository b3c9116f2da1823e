# Both releases: Adam with one small learning rate for backbone and embedding, never lowered. Set max_epochs.
optim_wrapper = dict(optimizer=dict(type='Adam', lr=1e-5, weight_decay=1e-4))
train_cfg = dict(by_epoch=True, val_interval=5)
val_cfg = dict()
test_cfg = dict()
