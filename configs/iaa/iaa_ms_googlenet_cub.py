# The values of the released command.
_base_ = ['../multi_similarity/ms_googlenet_cub.py', '../_base_/iaa.py']

model = dict(head=dict(sources=dict(iaa={{_base_.iaa}})))
