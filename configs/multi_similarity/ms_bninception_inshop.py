_base_ = [
    '../_base_/models/bninception.py',
    '../_base_/datasets/inshop_256.py',
    '../_base_/schedules/iaa_100e_large.py',
    '../_base_/default_runtime.py',
]

model = dict(head=dict(loss=dict(type='MultiSimilarityLoss')))
