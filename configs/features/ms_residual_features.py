_base_ = [
    '../_base_/models/residual.py',
    '../_base_/datasets/features.py',
    '../_base_/schedules/features_20e.py',
]

model = dict(head=dict(loss=dict(type='MultiSimilarityLoss')))
