_base_ = ['../_base_/division/sop.py', '../_base_/division/dcplus-k1_margin_r50.py']

train_dataloader = dict(sampler=dict(images_per_class=2))
