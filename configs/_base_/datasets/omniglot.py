# Omniglot as it comes with the package: 28x28, white on black; 964 training and 659 test classes, 20 images each.
batch_size = 128
images_per_class = 4

train_pipeline = [
    dict(type='RandomAffine', degrees=10, translate=0.08, scale=(0.9, 1.1)),
    dict(type='mmpretrain.PackInputs'),
]
test_pipeline = [dict(type='mmpretrain.PackInputs')]

train_dataloader = dict(
    batch_size=batch_size,
    num_workers=1,
    persistent_workers=True,
    collate_fn=dict(type='default_collate'),
    sampler=dict(type='PKSampler', batch_size=batch_size, images_per_class=images_per_class, preset='cover'),
    dataset=dict(type='Omniglot', split='train', pipeline=train_pipeline),
)
# A monitor: the scores on test classes during training select nothing.
val_dataloader = dict(
    batch_size=256,
    num_workers=1,
    collate_fn=dict(type='default_collate'),
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='Omniglot', split='test', test_mode=True, pipeline=test_pipeline),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='RetrievalMetric', recall_at=(1, 2, 4, 8))
test_evaluator = val_evaluator
