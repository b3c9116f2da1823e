# ViT-B/16 with DINO's self-supervised weights, from timm's hub.
_base_ = './vit-small-dino-timm.py'

model = dict(backbone=dict(model_name='vit_base_patch16_224.dino'), neck=dict(in_channels=768))
