# PKU VehicleID: the official lists. Tests score the three test lists (800, 1,600 and 2,400 vehicles) in one run, by
# both protocols: one random gallery image a vehicle, mean over ten draws (retrieval/small/Recall@1 and so on), and
# every image searching all others (all_versus_all/small/Recall@1), whose figures are much higher. Validation takes
# the small list and one gallery image. Batches as for SOP: the release of IAA, which lacks this dataset, takes three
# images a class of every large one.
_base_ = ['./sop.py', './vehicleid_protocols.py']

source = dict(type='VehicleID', data_root='data/VehicleID_V1.0')
train_dataloader = dict(dataset=source)
val_dataloader = dict(dataset=dict(size='small', **source))
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
