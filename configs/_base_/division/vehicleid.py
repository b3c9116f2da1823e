# PKU VehicleID with the input of CUB; batches of 80, as both releases. Tests score the three lists by both protocols
# (see ../datasets/vehicleid.py): papers compare with one gallery image a vehicle, the releases search all by all.
_base_ = './cub200.py'

source = dict(type='VehicleID', data_root='data/VehicleID_V1.0')
test_lists = ('small', 'medium', 'large')
train_dataloader = dict(
    batch_size=80,
    sampler=dict(batch_size=80),
    dataset=source,
)
val_dataloader = dict(dataset=dict(**source, size='small'))
test_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='RetrievalConcatDataset',
        label_space='shared',
        datasets=[
            dict(split='test', size=size, test_mode=True, pipeline=_base_.test_pipeline, **source)
            for size in test_lists
        ],
    )
)
# A query has one positive: MAP@R and RP would repeat Recall@1.
one_image = dict(type='SingleGalleryShot')
val_evaluator = dict(recall_at=(1, 5), metrics=('Recall@K', 'MRR'), protocol=one_image)
test_evaluator = [
    dict(
        type='RetrievalMetric',
        recall_at=(1, 5),
        metrics=('Recall@K', 'MRR'),
        protocol=dict(type='PerPart', names=test_lists, protocol=one_image),
    ),
    dict(
        type='RetrievalMetric',
        prefix='all_versus_all',
        recall_at=(1, 5),
        protocol=dict(type='PerPart', names=test_lists, protocol=dict(type='AllVersusAll')),
    ),
]
auto_scale_lr = dict(base_batch_size=80)
