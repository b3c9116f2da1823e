# MobileNetV2, width 1.0. The weights: torchvision's, or any file in its layout, through
# python tools/model_converters/torchvision_mobilenet_v2_to_mmpretrain.py SOURCE checkpoints/mobilenet_v2.pth
model = dict(
    type='ImageEmbedder',
    data_preprocessor=dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True),
    backbone=dict(
        type='mmpretrain.MobileNetV2',
        init_cfg=dict(type='Pretrained', checkpoint='checkpoints/mobilenet_v2.pth'),
    ),
    pooling=dict(type='GlobalAveragePooling'),
    neck=dict(type='LinearEmbedding', in_channels=1280, embed_dim=512),
    head=dict(type='EmbeddingHead'),
    freeze_bn_stats=True,
    channels_last=True,
)
