# In-shop Clothes Retrieval in batches of 256 = 85 x 3 + 1, as IAA's commands for BN-Inception and ResNet-50 have them.
_base_ = './inshop.py'

batch_size = 256
train_dataloader = dict(batch_size=batch_size, sampler=dict(batch_size=batch_size))
auto_scale_lr = dict(base_batch_size=batch_size)
