_base_ = ['./ms_residual_features.py', '../_base_/iaa_features.py']

model = dict(head=dict(sources=dict(iaa={{_base_.iaa}})))
