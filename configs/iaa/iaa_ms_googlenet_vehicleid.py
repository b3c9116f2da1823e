# Never released: the values of SOP with GoogLeNet, our choice.
_base_ = ['../multi_similarity/ms_googlenet_vehicleid.py', '../_base_/iaa.py']

model = dict(head=dict(sources=dict(iaa=dict(_base_.iaa, lam=0.6))))
