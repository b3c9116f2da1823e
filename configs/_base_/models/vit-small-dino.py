# ViT-S/16 with DINO's self-supervised weights; the class token passes through the pooling. The weights:
# https://dl.fbaipublicfiles.com/dino/dino_deitsmall16_pretrain/dino_deitsmall16_pretrain.pth through
# python tools/model_converters/dino_to_mmpretrain.py dino_deitsmall16_pretrain.pth checkpoints/vit_small_dino.pth
model = dict(
    type='ImageEmbedder',
    data_preprocessor=dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True),
    backbone=dict(
        type='mmpretrain.VisionTransformer',
        arch='deit-small',
        img_size=224,
        patch_size=16,
        out_type='cls_token',
        init_cfg=dict(type='Pretrained', checkpoint='checkpoints/vit_small_dino.pth'),
    ),
    pooling=dict(type='GlobalAveragePooling'),
    neck=dict(type='LinearEmbedding', in_channels=384, embed_dim=512),
    head=dict(type='EmbeddingHead'),
)
