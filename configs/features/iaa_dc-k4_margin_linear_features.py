# Both methods: IAA's copies inside each of four learners.
_base_ = ['./dc-k4_margin_linear_features.py', '../_base_/iaa_features.py']

model = dict(head=dict(sources=dict(iaa={{_base_.iaa}})))
