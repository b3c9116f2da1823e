# ViT-S/14 with DINOv2's self-supervised weights, from timm's hub; trained at 518 pixels, their position embeddings are
# resized to 224.
_base_ = './vit-small-dino-timm.py'

model = dict(backbone=dict(model_name='vit_small_patch14_dinov2.lvd142m'))
