# No GPU where the model is used: as frozen_backbone.py, with an embedding of 512 numbers, by a linear neck.
_base_ = ['./frozen_backbone.py']

feature_width = 1280
lr = 3e-3
model = dict(
    neck=dict(_delete_=True, type='LinearEmbedding', in_channels=feature_width, embed_dim=512),
    head=dict(loss=dict(type='ContrastiveLoss')),
)
optim_wrapper = dict(optimizer=dict(lr=lr))
