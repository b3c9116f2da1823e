_base_ = [
    '../_base_/models/r50.py',
    '../_base_/datasets/sop_256.py',
    '../_base_/schedules/iaa_100e_large.py',
    '../_base_/default_runtime.py',
]

model = dict(head=dict(loss=dict(type='MultiSimilarityLoss')))
