# ViT-B/16 of SigLIP (WebLI), from timm's hub, with its attention pooling. 'vit_base_patch16_siglip_224.v2_webli' are
# the weights of SigLIP 2.
_base_ = './vit-base-dino-timm.py'

model = dict(
    data_preprocessor=dict(mean=[127.5, 127.5, 127.5], std=[127.5, 127.5, 127.5]),
    backbone=dict(model_name='vit_base_patch16_siglip_224.webli'),
)
