# In-shop Clothes Retrieval with the input of CUB; batches of 80, as both releases.
_base_ = './cub.py'

source = dict(type='InShop', data_root='data/in_shop')
train_dataloader = dict(
    batch_size=80,
    sampler=dict(batch_size=80),
    dataset=source,
)
val_dataloader = dict(dataset=source)
test_dataloader = val_dataloader
val_evaluator = dict(recall_at=(1, 10, 20, 30, 40, 50))
test_evaluator = val_evaluator
auto_scale_lr = dict(base_batch_size=80)
