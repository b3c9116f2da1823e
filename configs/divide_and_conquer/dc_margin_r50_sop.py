# The CVPR release's command: K = 8, batches of 80 x 4.
_base_ = ['../_base_/division/sop.py', '../_base_/division/dc_margin_r50.py']

model = dict(neck=dict(num_learners=8), head=dict(num_learners=8))
custom_hooks = [dict(num_clusters=8, **_base_.division)]
