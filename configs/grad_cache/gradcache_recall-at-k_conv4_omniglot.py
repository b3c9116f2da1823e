_base_ = [
    '../_base_/models/conv4.py',
    '../_base_/datasets/omniglot.py',
    '../_base_/schedules/omniglot_15e.py',
    '../_base_/default_runtime.py',
]

# 256 classes of 4 images in a batch, embedded 128 images at a time: the memory of a batch of 128.
model = dict(chunk_size=128, head=dict(loss=dict(type='RecallAtKLoss')))
batch_size = 1024
train_dataloader = dict(batch_size=batch_size, sampler=dict(batch_size=batch_size))
auto_scale_lr = dict(base_batch_size=batch_size)
