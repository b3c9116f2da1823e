model = dict(
    type='ImageEmbedder',
    data_preprocessor=dict(mean=[0.0], std=[255.0]),
    backbone=dict(type='Conv4', in_channels=1, channels=64),
    pooling=dict(type='GlobalAveragePooling'),
    neck=dict(type='LinearEmbedding', in_channels=64, embed_dim=128),
    head=dict(type='EmbeddingHead'),
)
