# Never released for the triplet loss: the values of multi-similarity, our choice.
_base_ = ['../triplet/triplet_googlenet_sop.py', '../_base_/iaa.py']

model = dict(head=dict(sources=dict(iaa=dict(_base_.iaa, lam=0.6))))
