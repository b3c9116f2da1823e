# IAA's BN-Inception: weights converted from Caffe, hence BGR images of 0 to 255; average + max pooling, 512-d,
# batch-norm statistics frozen, affine trained.
model = dict(
    type='ImageEmbedder',
    data_preprocessor=dict(mean=[104.0, 117.0, 128.0], std=[1.0, 1.0, 1.0], to_rgb=False),
    backbone=dict(
        type='BNInception',
        init_cfg=dict(
            type='Pretrained',
            checkpoint='http://data.lip6.fr/cadene/pretrainedmodels/bn_inception-52deb4733.pth',
        ),
    ),
    pooling=dict(type='GlobalAverageMaxPooling'),
    neck=dict(type='LinearEmbedding', in_channels=1024, embed_dim=512),
    head=dict(type='EmbeddingHead'),
    freeze_bn_stats=True,
)
