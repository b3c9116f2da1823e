_base_ = [
    '../_base_/models/googlenet_iaa.py',
    '../_base_/datasets/inshop.py',
    '../_base_/schedules/iaa_100e_large.py',
    '../_base_/default_runtime.py',
]

model = dict(head=dict(loss=dict(type='MultiSimilarityLoss')))
