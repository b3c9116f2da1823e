_base_ = './dc-k4_margin_linear_features.py'

model = dict(neck=dict(num_learners=8))
