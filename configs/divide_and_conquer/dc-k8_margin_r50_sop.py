# K = 8 and batches of 80 x 4, as in the CVPR release's command.
_base_ = ['../_base_/division/sop.py', '../_base_/division/dc_margin_r50.py']

model = dict(neck=dict(num_learners=8))
