# As released.
_base_ = '../baselines/contrastive_googlenet_cub.py'

model = dict(head=dict(sources=dict(iaa=dict(type='IAAGenerator', num_copies=3, lam=0.8, onset=30, update_interval=2))))
