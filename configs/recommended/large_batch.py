# Batches of hundreds in the memory of 64 pictures (GradCache): as many_images.py, with the whole batch in one loss.
_base_ = ['./many_images.py']

batch_size = 512
train_dataloader = dict(batch_size=batch_size, sampler=dict(batch_size=batch_size))
model = dict(chunk_size=64)
auto_scale_lr = dict(base_batch_size=batch_size)
