_base_ = ['../multi_similarity/ms_mobilenet-v2_grocery.py', '../_base_/iaa_relative_onset.py']

model = dict(head=dict(sources=dict(iaa={{_base_.iaa}})))
