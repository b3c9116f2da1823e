# K and batches of the TPAMI paper are not known to us: K = 4 as in the CVPR paper, and 128 x 4, the release's default.
_base_ = ['../_base_/division/cub.py', '../_base_/division/dcplus-fixed_margin_r50.py']

model = dict(neck=dict(num_learners=4))
