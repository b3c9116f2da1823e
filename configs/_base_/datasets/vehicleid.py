# PKU VehicleID: the official lists. Tests score the three test lists (800, 1,600 and 2,400 vehicles) in one run, by
# both protocols: one random gallery image a vehicle, mean over ten draws (retrieval/small/Recall@1 and so on), and
# every image searching all others (all_versus_all/small/Recall@1), whose figures are much higher. Validation takes
# the small list and one gallery image. Batches as for SOP: the release of IAA, which lacks this data set, takes three
# images a class of every large one.
_base_ = './sop.py'

source = dict(type='VehicleID', data_root='data/VehicleID_V1.0')
test_lists = ('small', 'medium', 'large')
train_dataloader = dict(dataset=source)
val_dataloader = dict(dataset=dict(size='small', **source))
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
