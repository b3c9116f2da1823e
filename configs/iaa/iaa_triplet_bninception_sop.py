# Never released for the triplet loss: the values of multi-similarity, our choice.
_base_ = ['../baselines/triplet_bninception_sop.py', '../_base_/iaa.py']

model = dict(head=dict(sources=dict(iaa=dict(_base_.iaa, lam=0.5))))
