# Many pictures, best on a GPU: further training of a whole model, multi-similarity loss with IAA.
# `mmdml train FOLDER` writes this file with its own values into the run, and `python tools/train.py` takes it as it is.
# What is assigned once up here is used everywhere below; other recipes have the same names.
_base_ = ['mmdml::_base_/default_runtime.py']

data = dict(type='ImageFolder', data_root='photos')  # relative to where the command is run
val_classes = 0.2  # share or number of the classes that are held out and scored
model_name = 'default'  # what the training starts from
embedder = dict(
    type='ImageEmbedder',
    data_preprocessor=dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True),
    backbone=dict(
        type='mmpretrain.MobileNetV2', init_cfg=dict(type='Pretrained', checkpoint='checkpoints/mobilenet_v2.pth')
    ),
    neck=dict(type='LinearEmbedding', in_channels=1280, embed_dim=128),
)
weights = None  # of the embedder
color_type = 'color'
image_size = 128
batch_size = 64
images_per_class = 4
epochs = 10
lr = 1e-4
num_workers = 2
seed = 0

train_pipeline = [
    dict(type='LoadImageFromFile', color_type=color_type),
    dict(
        type='mmpretrain.RandomResizedCrop',
        scale=image_size,
        crop_ratio_range=(0.36, 1.0),
        backend='cv2',
        interpolation='bilinear',
    ),
    dict(type='RandomFlip', prob=0.5),
    dict(type='mmpretrain.PackInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile', color_type=color_type),
    dict(
        type='mmpretrain.ResizeEdge',
        scale=round(image_size * 8 / 7),
        edge='short',
        backend='cv2',
        interpolation='bilinear',
    ),
    dict(type='mmpretrain.CenterCrop', crop_size=image_size),
    dict(type='mmpretrain.PackInputs'),
]
loader = dict(
    num_workers=num_workers,
    persistent_workers=num_workers > 0,
    collate_fn=dict(type='default_collate'),
)
held_out = dict(val_classes=val_classes, val_seed=0)
train_dataloader = dict(
    **loader,
    batch_size=batch_size,
    sampler=dict(type='PKSampler', batch_size=batch_size, images_per_class=images_per_class),
    dataset=dict(**data, **held_out, split='train', pipeline=train_pipeline),
)
# Without held-out classes this scores the training pictures; mmdml train FOLDER then scores none.
val_dataloader = dict(
    **loader,
    batch_size=batch_size,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(**data, **held_out, split='val' if val_classes else 'train', test_mode=True, pipeline=test_pipeline),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='RetrievalMetric', recall_at=(1, 2, 4, 8))
test_evaluator = val_evaluator

load_from = weights
model = dict(
    **embedder,
    freeze_bn_stats=True,
    head=dict(
        type='EmbeddingHead',
        loss=dict(type='MultiSimilarityLoss'),
        # Copies from a twentieth of the run on, class statistics anew every fifth of it.
        sources=dict(iaa=dict(type='IAAGenerator', num_copies=3, lam=0.8, onset=0.05, update_interval=0.2)),
    ),
)
optim_wrapper = dict(
    optimizer=dict(type='Adam', lr=lr, weight_decay=1e-5), paramwise_cfg=dict(custom_keys={'neck': dict(lr_mult=10)})
)
param_scheduler = dict(type='CosineAnnealingLR', T_max=epochs, convert_to_iter_based=True)  # down to 0 at the end
train_cfg = dict(by_epoch=True, max_epochs=epochs, val_interval=max(1, epochs // 5))
val_cfg = dict()
test_cfg = dict()
auto_scale_lr = dict(base_batch_size=64)
randomness = dict(seed=seed)
