# The backbone as it is: it embeds every picture once, and a residual neck is trained on its features, in seconds.
# `mmdml train FOLDER` writes this file with its own values into the run, makes the features, and puts backbone and neck
# together. What is assigned once up here is used everywhere below; recipes without features lack the first two.
_base_ = ['mmdml::_base_/default_runtime.py']

features = 'features.npz'  # pooled and of length 1, with labels, of all pictures
feature_width = 1280
data = dict(type='ImageFolder', data_root='photos')  # relative to where the command is run
val_classes = 0.2  # share or number of the classes that are held out and scored
model_name = 'default'  # whose backbone it is
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
epochs = 20
lr = 3e-4
num_workers = 2
seed = 0

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
rows = dict(type='FeatureFile', ann_file=features, val_classes=val_classes, val_seed=0, pipeline=[])
loader = dict(num_workers=0, collate_fn=dict(type='mmdml.collate_features'))
train_dataloader = dict(
    **loader,
    batch_size=batch_size,
    # An epoch is 15 updates, whatever the number of pictures.
    sampler=dict(type='PKSampler', batch_size=batch_size, images_per_class=images_per_class, num_batches=15),
    dataset=dict(**rows, split='train'),
)
# Without held-out classes this scores the training pictures; mmdml train FOLDER then scores none.
val_dataloader = dict(
    **loader,
    batch_size=512,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(**rows, split='val' if val_classes else 'train', test_mode=True),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='RetrievalMetric', recall_at=(1, 2, 4, 8))
test_evaluator = val_evaluator

model = dict(
    type='ImageEmbedder',
    data_preprocessor=dict(type='FeaturePreprocessor'),
    backbone=dict(type='Identity'),
    neck=dict(type='ResidualEmbedding', in_channels=feature_width, hidden=(256,)),
    head=dict(type='EmbeddingHead', loss=dict(type='MultiSimilarityLoss')),
)
optim_wrapper = dict(optimizer=dict(type='Adam', lr=lr, weight_decay=1e-5))
param_scheduler = dict(type='CosineAnnealingLR', T_max=epochs, eta_min_ratio=0.01)
train_cfg = dict(by_epoch=True, max_epochs=epochs, val_interval=epochs)
val_cfg = dict()
test_cfg = dict()
default_hooks = dict(checkpoint=dict(interval=epochs))
auto_scale_lr = dict(base_batch_size=64)
randomness = dict(seed=seed)
