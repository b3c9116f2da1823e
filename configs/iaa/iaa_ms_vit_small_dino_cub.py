# In no paper: IAA's values for GoogLeNet, our choice, never validated.
_base_ = '../baselines/ms_vit_small_dino_cub.py'

model = dict(head=dict(sources=dict(iaa=dict(type='IAAGenerator', num_copies=3, lam=0.8, onset=30, update_interval=2))))
