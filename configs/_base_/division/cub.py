# CUB-200-2011 with the papers' input: random crop of 8-100 % area. One cluster a batch.
_base_ = '../datasets/cub.py'

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        type='mmpretrain.RandomResizedCrop',
        scale=224,
        crop_ratio_range=(0.08, 1.0),
        backend='pillow',
        interpolation='bilinear',
    ),
    dict(type='RandomFlip', prob=0.5),
    dict(type='mmpretrain.PackInputs', meta_keys={{_base_.meta_keys}}),
]
train_dataloader = dict(
    sampler=dict(_delete_=True, type='ClusterPKSampler', batch_size=128, images_per_class=4),
    dataset=dict(pipeline=train_pipeline),
)
auto_scale_lr = dict(base_batch_size=128)
