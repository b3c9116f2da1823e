_base_ = ['../triplet/triplet_conv4_omniglot.py', '../_base_/iaa_relative_onset.py']

model = dict(head=dict(sources=dict(iaa={{_base_.iaa}})))
