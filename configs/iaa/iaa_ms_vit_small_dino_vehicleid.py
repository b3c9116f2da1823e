# In no paper: IAA's values for ResNet-50 on SOP, our choice, never validated.
_base_ = ['../baselines/ms_vit_small_dino_vehicleid.py', '../_base_/iaa.py']

model = dict(head=dict(sources=dict(iaa=dict(_base_.iaa, lam=0.5))))
