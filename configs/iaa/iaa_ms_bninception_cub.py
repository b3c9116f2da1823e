# Never released for BN-Inception: the values of GoogLeNet, our choice.
_base_ = ['../multi_similarity/ms_bninception_cub.py', '../_base_/iaa.py']

model = dict(head=dict(sources=dict(iaa={{_base_.iaa}})))
