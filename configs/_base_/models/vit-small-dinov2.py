# ViT-S/14 with DINOv2's self-supervised weights, as mmpretrain distributes them; sides of images: multiples of 14.
_base_ = './vit-small-dino.py'

model = dict(
    backbone=dict(
        arch='dinov2-small',
        img_size=518,
        patch_size=14,
        layer_scale_init_value=1e-5,
        init_cfg=dict(
            checkpoint='https://mmassets.onedl.ai/mmpretrain/v1.0/dinov2/vit-small-p14_dinov2-pre_3rdparty_20230426-5641ca5a.pth',
            prefix='backbone',
        ),
    ),
)
