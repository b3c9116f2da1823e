_base_ = [
    '../_base_/models/r50.py',
    '../_base_/datasets/cub.py',
    '../_base_/schedules/iaa_100e.py',
    '../_base_/default_runtime.py',
]

model = dict(head=dict(loss=dict(type='MultiSimilarityLoss')))
