# Never released for BN-Inception: the values of GoogLeNet, our choice.
_base_ = '../baselines/ms_bninception_cub.py'

model = dict(head=dict(sources=dict(iaa=dict(type='IAAGenerator', num_copies=3, lam=0.8, onset=30, update_interval=2))))
