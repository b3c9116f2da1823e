# IAA's ResNet-50: ImageNet weights v1, average + max pooling, 512-d, batch-norm statistics frozen, affine trained.
model = dict(
    type='ImageEmbedder',
    data_preprocessor=dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True),
    backbone=dict(
        type='mmpretrain.ResNet',
        depth=50,
        style='pytorch',
        init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet50'),
    ),
    pooling=dict(type='GlobalAverageMaxPooling'),
    neck=dict(type='LinearEmbedding', in_channels=2048, embed_dim=512),
    head=dict(type='EmbeddingHead'),
    freeze_bn_stats=True,
)
