# PKU VehicleID with the input of CUB; batches of 80, as both releases. Tests score the three lists by both protocols
# (see ../datasets/vehicleid.py): papers compare with one gallery image a vehicle, the releases search all by all.
_base_ = ['./cub.py', '../datasets/vehicleid_protocols.py']

source = dict(type='VehicleID', data_root='data/VehicleID_V1.0')
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
            for size in _base_.test_lists
        ],
    )
)
val_evaluator = _base_.validation
test_evaluator = _base_.both_protocols
auto_scale_lr = dict(base_batch_size=80)
