# Stanford Online Products: the official lists. Classes have 2-12 images; IAA's batches are 60 classes x 3, and its
# epochs at most 300 of them.
_base_ = './cars.py'

batch_size = 180
images_per_class = 3

source = dict(type='StanfordOnlineProducts', data_root='data/Stanford_Online_Products')
train_dataloader = dict(
    batch_size=batch_size,
    sampler=dict(batch_size=batch_size, images_per_class=images_per_class, num_batches=300),
    dataset=source,
)
val_dataloader = dict(dataset=source)
test_dataloader = val_dataloader
val_evaluator = dict(recall_at=(1, 10, 100, 1000))
test_evaluator = val_evaluator
auto_scale_lr = dict(base_batch_size=batch_size)
