# In no paper of this project: everything but the data set's batches is our choice, never validated.
_base_ = [
    '../_base_/models/vit_small_dino.py',
    '../_base_/datasets/cub200.py',
    '../_base_/schedules/vit_100e.py',
    '../_base_/default_runtime.py',
]

model = dict(head=dict(loss=dict(type='MultiSimilarityLoss')))
