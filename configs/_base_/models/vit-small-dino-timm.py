# ViT-S/16 with DINO's self-supervised weights, from timm's hub. Images of any size: position embeddings are resized.
model = dict(
    type='ImageEmbedder',
    data_preprocessor=dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True),
    backbone=dict(
        type='TimmModel',
        model_name='vit_small_patch16_224.dino',
        img_size=224,
        dynamic_img_size=True,
        dynamic_img_pad=True,
    ),
    neck=dict(type='LinearEmbedding', in_channels=384, embed_dim=512),
    head=dict(type='EmbeddingHead'),
)
