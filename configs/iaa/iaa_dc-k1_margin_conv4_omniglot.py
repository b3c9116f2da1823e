# IAA with the margin loss and one learner: the baseline of iaa_dc-k4-warmup_margin_conv4_omniglot.py.
_base_ = ['../divide_and_conquer/dc-k1_margin_conv4_omniglot.py', '../_base_/iaa_relative_onset.py']

model = dict(head=dict(sources=dict(iaa={{_base_.iaa}})))
