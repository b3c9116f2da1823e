# Never released for ResNet-50: the values of GoogLeNet, our choice.
_base_ = ['../multi_similarity/ms_r50_cars.py', '../_base_/iaa.py']

model = dict(head=dict(sources=dict(iaa={{_base_.iaa}})))
