# Few pictures a class, about five: as frozen_backbone.py, three of a class in a batch.
_base_ = ['./frozen_backbone.py']

batch_size = 48
images_per_class = 3
train_dataloader = dict(batch_size=batch_size, sampler=dict(batch_size=batch_size, images_per_class=images_per_class))
auto_scale_lr = dict(base_batch_size=batch_size)
