# Both methods: four learners (slices) after a warm-up, and IAA's copies inside each learner.
_base_ = ['../divide_and_conquer/dc-k4-warmup_margin_conv4_omniglot.py', '../_base_/iaa_relative_onset.py']

model = dict(head=dict(sources=dict(iaa={{_base_.iaa}})))
