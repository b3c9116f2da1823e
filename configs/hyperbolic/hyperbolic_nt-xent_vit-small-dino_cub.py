# Hyp-DINO on CUB by the authors' command and code: batches of 100 classes x 9 images, AdamW at one constant rate,
# gradients clipped at 3, crops of 20-100 % area, bicubic. A batch of 900 needs several devices.
_base_ = [
    '../_base_/models/vit-small-dino.py',
    '../_base_/datasets/cub.py',
    '../_base_/default_runtime.py',
]

model = dict(
    neck=dict(
        _delete_=True, type='HyperbolicEmbedding', in_channels=384, embed_dim=128, curvature=0.1, clip_radius=2.3
    ),
    head=dict(loss=dict(type='NTXentLoss', temperature=0.2), space=dict(type='PoincareBall', curvature=0.1)),
)
optim_wrapper = dict(optimizer=dict(type='AdamW', lr=1e-5, weight_decay=0.01), clip_grad=dict(max_norm=3))
train_cfg = dict(by_epoch=True, max_epochs=50, val_interval=5)
val_cfg = dict()
test_cfg = dict()

bicubic = dict(backend='pillow', interpolation='bicubic')
train_pipeline = [
    _base_.train_pipeline[0],
    dict(type='mmpretrain.RandomResizedCrop', scale=224, crop_ratio_range=(0.2, 1.0), **bicubic),
    *_base_.train_pipeline[2:],
]
test_pipeline = [
    _base_.test_pipeline[0],
    dict(type='mmpretrain.ResizeEdge', scale=256, edge='short', **bicubic),
    *_base_.test_pipeline[2:],
]
batch_size = 900
train_dataloader = dict(
    batch_size=batch_size,
    sampler=dict(batch_size=batch_size, images_per_class=9),
    dataset=dict(pipeline=train_pipeline),
)
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(distance='hyperbolic')
test_evaluator = val_evaluator
auto_scale_lr = dict(base_batch_size=batch_size)
