# K = 4 and batches of 128 x 4 as in the CVPR paper, to our knowledge; its release lacks Cars.
# Stages and rate are those of SOP; the authors advise to fine-tune from epoch 60 and to lower the rate every 30.
_base_ = ['../_base_/division/cars.py', '../_base_/division/dc_margin_r50.py']

model = dict(neck=dict(num_learners=4))
