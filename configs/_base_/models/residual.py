# A correction of the features of a frozen backbone (../datasets/features.py), as wide as they are and 0 at first.
model = dict(
    type='ImageEmbedder',
    data_preprocessor=dict(type='FeaturePreprocessor'),
    backbone=dict(type='Identity'),
    neck=dict(type='ResidualEmbedding', in_channels=1280, hidden=(256,)),
    head=dict(type='EmbeddingHead'),
)
