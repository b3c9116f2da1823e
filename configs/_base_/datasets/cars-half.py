# 98 training and 98 test classes of cars (half of the images of Cars-196, cut to their boxes), 4,052 and 4,092 images;
# data/cars196_trainhalf/train.txt and test.txt have a line "path label" for each image.
# 62 batches an epoch: 10 epochs are 620 updates.
_base_ = './grocery.py'

data_root = 'data/cars196_trainhalf'

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        type='mmpretrain.RandomResizedCrop',
        scale=96,
        crop_ratio_range=(0.36, 1.0),
        interpolation='bilinear',
        backend='cv2',
    ),
    dict(type='RandomFlip', prob=0.5),
    dict(type='mmpretrain.PackInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='mmpretrain.ResizeEdge', scale=112, edge='short', interpolation='bilinear', backend='cv2'),
    dict(type='mmpretrain.CenterCrop', crop_size=96),
    dict(type='mmpretrain.PackInputs'),
]

train_dataloader = dict(dataset=dict(data_root=data_root, pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(data_root=data_root, pipeline=test_pipeline))
test_dataloader = val_dataloader
