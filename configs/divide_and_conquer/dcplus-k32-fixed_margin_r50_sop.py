# The TPAMI release's command: K = 32, batches of 80 x 2.
_base_ = ['../_base_/division/sop.py', '../_base_/division/dcplus-fixed_margin_r50.py']

model = dict(neck=dict(num_learners=32))
train_dataloader = dict(sampler=dict(images_per_class=2))
