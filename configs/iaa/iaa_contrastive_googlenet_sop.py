# As released.
_base_ = '../baselines/contrastive_googlenet_sop.py'

model = dict(head=dict(sources=dict(iaa=dict(type='IAAGenerator', num_copies=2, lam=0.6, onset=30, update_interval=2))))
