# Stanford Online Products with the input of CUB; batches of 80, as both releases.
_base_ = './cub.py'

source = dict(type='StanfordOnlineProducts', data_root='data/Stanford_Online_Products')
train_dataloader = dict(
    batch_size=80,
    sampler=dict(batch_size=80),
    dataset=source,
)
val_dataloader = dict(dataset=source)
test_dataloader = val_dataloader
val_evaluator = dict(recall_at=(1, 10, 100, 1000))
test_evaluator = val_evaluator
auto_scale_lr = dict(base_batch_size=80)
