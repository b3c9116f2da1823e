# 40 training and 41 test classes of products and fruit (grocery photographs), 2,979 and 2,442 images;
# data/grocery/train.txt and test.txt have a line "path label" for each image.
# 62 batches an epoch: 10 epochs are 620 updates.
data_root = 'data/grocery'
batch_size = 64
images_per_class = 4

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        type='mmpretrain.RandomResizedCrop',
        scale=112,
        crop_ratio_range=(0.36, 1.0),
        interpolation='bilinear',
        backend='cv2',
    ),
    dict(type='RandomFlip', prob=0.5),
    dict(type='mmpretrain.PackInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='mmpretrain.ResizeEdge', scale=128, edge='short', interpolation='bilinear', backend='cv2'),
    dict(type='mmpretrain.CenterCrop', crop_size=112),
    dict(type='mmpretrain.PackInputs'),
]

train_dataloader = dict(
    batch_size=batch_size,
    num_workers=1,
    persistent_workers=True,
    collate_fn=dict(type='default_collate'),
    sampler=dict(type='PKSampler', batch_size=batch_size, images_per_class=images_per_class, num_batches=62),
    dataset=dict(type='ImageList', data_root=data_root, ann_file='train.txt', split='train', pipeline=train_pipeline),
)
# A monitor: the scores on test classes during training select nothing.
val_dataloader = dict(
    batch_size=batch_size,
    num_workers=1,
    collate_fn=dict(type='default_collate'),
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='ImageList',
        data_root=data_root,
        ann_file='test.txt',
        split='test',
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='RetrievalMetric', recall_at=(1, 2, 4, 8))
test_evaluator = val_evaluator
