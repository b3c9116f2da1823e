# In no paper: IAA's values for GoogLeNet, our choice, never validated.
_base_ = ['../baselines/ms_vit_small_dino_cars.py', '../_base_/iaa.py']

model = dict(head=dict(sources=dict(iaa={{_base_.iaa}})))
