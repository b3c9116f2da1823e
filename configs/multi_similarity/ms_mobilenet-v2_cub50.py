_base_ = [
    '../_base_/models/mobilenet-v2.py',
    '../_base_/datasets/cub50.py',
    '../_base_/schedules/photographs_10e.py',
    '../_base_/presets/head-lr-x10.py',
    '../_base_/default_runtime.py',
]
model = dict(neck=dict(embed_dim=128), head=dict(loss=dict(type='MultiSimilarityLoss')))
optim_wrapper = dict(paramwise_cfg={{_base_.head_lr_x10}})
