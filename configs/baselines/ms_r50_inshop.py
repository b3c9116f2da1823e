_base_ = [
    '../_base_/models/r50.py',
    '../_base_/datasets/inshop.py',
    '../_base_/schedules/iaa_100e.py',
    '../_base_/default_runtime.py',
]

model = dict(head=dict(loss=dict(type='MultiSimilarityLoss')))
optim_wrapper = dict(optimizer=dict(lr=1e-4))
train_dataloader = dict(batch_size=256, sampler=dict(batch_size=256))
