# For a pre-trained vision transformer: AdamW with a small rate for the backbone and ten times that for the embedding
# layer; epochs and steps of iaa_100e.py. Our choice, never validated.
_base_ = ['./iaa_100e.py', '../presets/head-lr-x10.py']

optim_wrapper = dict(optimizer=dict(type='AdamW', lr=1e-5, weight_decay=0.01), paramwise_cfg={{_base_.head_lr_x10}})
