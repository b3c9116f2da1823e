# CUB-200-2011: first 100 classes train, last 100 test. IAA's input: crop of 16-100 % area, no squashing before it.
batch_size = 128
images_per_class = 4

meta_keys = ('sample_idx', 'img_path', 'role', 'ori_shape', 'img_shape')
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        type='mmpretrain.RandomResizedCrop',
        scale=224,
        crop_ratio_range=(0.16, 1.0),
        backend='pillow',
        interpolation='lanczos',
    ),
    dict(type='RandomFlip', prob=0.5),
    dict(type='mmpretrain.PackInputs', meta_keys=meta_keys),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='mmpretrain.ResizeEdge', scale=256, edge='short', backend='pillow', interpolation='bilinear'),
    dict(type='mmpretrain.CenterCrop', crop_size=224),
    dict(type='mmpretrain.PackInputs', meta_keys=meta_keys),
]

train_dataloader = dict(
    batch_size=batch_size,
    num_workers=8,
    persistent_workers=True,
    collate_fn=dict(type='default_collate'),
    sampler=dict(type='PKSampler', batch_size=batch_size, images_per_class=images_per_class, preset='independent'),
    dataset=dict(type='CUB200', data_root='data/CUB_200_2011', split='train', pipeline=train_pipeline),
)
# A monitor: the scores on test classes during training select nothing.
val_dataloader = dict(
    batch_size=128,
    num_workers=8,
    collate_fn=dict(type='default_collate'),
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='CUB200', data_root='data/CUB_200_2011', split='test', test_mode=True, pipeline=test_pipeline),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='RetrievalMetric', recall_at=(1, 2, 4, 8))
test_evaluator = val_evaluator
# What the learning rates of the configs are for.
auto_scale_lr = dict(base_batch_size=batch_size)
