# How VehicleID is scored. Tests: the three lists in one run, by both protocols. A query that has one positive needs no
# MAP@R and RP: they would repeat Recall@1.
test_lists = ('small', 'medium', 'large')
one_image = dict(type='SingleGalleryShot')
validation = dict(recall_at=(1, 5), metrics=('Recall@K', 'MRR'), protocol=one_image)
both_protocols = [
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
