# Cars-196: classes 1-98 train, 99-196 test. IAA squashes the images of every dataset but CUB to 256 x 256 first.
_base_ = './cub.py'

squash = dict(type='Resize', scale=(256, 256), backend='pillow', interpolation='lanczos')
train_pipeline = [_base_.train_pipeline[0], squash, *_base_.train_pipeline[1:]]
# In place of the resize of the short side.
test_pipeline = [_base_.test_pipeline[0], squash, *_base_.test_pipeline[2:]]

source = dict(type='Cars196', data_root='data/cars196')
train_dataloader = dict(dataset=dict(pipeline=train_pipeline, **source))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline, **source))
test_dataloader = val_dataloader
