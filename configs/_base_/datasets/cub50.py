# 25 training and 25 test classes of birds (the first 50 of CUB-200-2011), 1,402 and 1,487 images;
# data/cub50/train.txt and test.txt have a line "path label" for each image.
# 62 batches an epoch: 10 epochs are 620 updates.
_base_ = './grocery.py'

data_root = 'data/cub50'

train_dataloader = dict(dataset=dict(data_root=data_root))
val_dataloader = dict(dataset=dict(data_root=data_root))
test_dataloader = val_dataloader
