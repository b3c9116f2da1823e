# One linear layer on the features of a frozen backbone, which are the data (../datasets/features.py).
model = dict(
    type='ImageEmbedder',
    data_preprocessor=dict(type='FeaturePreprocessor'),
    backbone=dict(type='Identity'),
    neck=dict(type='LinearEmbedding', in_channels=1280, embed_dim=128),
    head=dict(type='EmbeddingHead'),
)
