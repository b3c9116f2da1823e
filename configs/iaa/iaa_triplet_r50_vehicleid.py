# Never released: the values of SOP with ResNet-50, our choice.
_base_ = '../baselines/triplet_r50_vehicleid.py'

model = dict(head=dict(sources=dict(iaa=dict(type='IAAGenerator', num_copies=3, lam=0.5, onset=30, update_interval=2))))
