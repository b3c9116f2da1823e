# Cars-196 with the input of CUB.
_base_ = './cub.py'

source = dict(type='Cars196', data_root='data/cars196')
train_dataloader = dict(dataset=source)
val_dataloader = dict(dataset=source)
test_dataloader = val_dataloader
