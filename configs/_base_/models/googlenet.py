# GoogLeNet as torchvision's weights need it: images re-scaled to their range; average pooling, 512-d, batch-norm
# statistics frozen, affine trained.
model = dict(
    type='ImageEmbedder',
    data_preprocessor=dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True),
    backbone=dict(
        type='GoogLeNet',
        transform_input=True,
        init_cfg=dict(type='Pretrained', checkpoint='torchvision://googlenet'),
    ),
    pooling=dict(type='GlobalAveragePooling'),
    neck=dict(type='LinearEmbedding', in_channels=1024, embed_dim=512),
    head=dict(type='EmbeddingHead'),
    freeze_bn_stats=True,
)
