# Never released for ResNet-50: the released CUB + MS row (lr 5e-5, lambda 0.8, M = 3, 32 x 4 = 128 images, 45 updates
# an epoch).
_base_ = ['../multi_similarity/ms_r50_cub.py', '../_base_/iaa.py']

model = dict(head=dict(sources=dict(iaa={{_base_.iaa}})))
