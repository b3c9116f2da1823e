# Never released for the triplet loss: the values of multi-similarity, our choice.
_base_ = '../baselines/triplet_bninception_inshop.py'

model = dict(head=dict(sources=dict(iaa=dict(type='IAAGenerator', num_copies=3, lam=0.5, onset=30, update_interval=2))))
