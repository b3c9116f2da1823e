# Never released: the values of SOP with ResNet-50, our choice.
_base_ = ['../multi_similarity/ms_r50_vehicleid.py', '../_base_/iaa.py']

model = dict(head=dict(sources=dict(iaa=dict(_base_.iaa, lam=0.5))))
