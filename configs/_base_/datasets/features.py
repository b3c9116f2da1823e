# Features of a frozen backbone, made once by tools/dataset_converters/extract_features.py; 1,280 wide for the backbones
# of ../models/mobilenet-v2.py and efficientnet-lite*.py. Batches of 16 classes with 4 rows each, as the sets have few
# classes.
batch_size = 64
images_per_class = 4
data_root = 'features/mobilenet-v2/grocery'

train_dataloader = dict(
    batch_size=batch_size,
    num_workers=0,
    collate_fn=dict(type='mmdml.collate_features'),
    # An epoch is 15 updates for every set of 960 rows or more.
    sampler=dict(
        type='PKSampler',
        batch_size=batch_size,
        images_per_class=images_per_class,
        preset='independent',
        num_batches=15,
    ),
    dataset=dict(type='FeatureFile', data_root=data_root, ann_file='train.npz', split='train', pipeline=[]),
)
val_dataloader = dict(
    batch_size=512,
    num_workers=0,
    collate_fn=dict(type='mmdml.collate_features'),
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='FeatureFile', data_root=data_root, ann_file='test.npz', split='test', test_mode=True, pipeline=[]
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='RetrievalMetric', recall_at=(1, 2, 4, 8))
test_evaluator = val_evaluator
auto_scale_lr = dict(base_batch_size=batch_size)
