_base_ = [
    '../_base_/models/conv4.py',
    '../_base_/datasets/omniglot.py',
    '../_base_/schedules/omniglot_15e.py',
    '../_base_/default_runtime.py',
]

# Two characters of one alphabet are a positive by half; the weight of a half is that of the formula, not tuned.
model = dict(
    head=dict(loss=dict(type='MultiSimilarityLoss'), targets=dict(type='HierarchyTargets', levels=['alphabet']))
)

# GradedNDCG by the same relation: the metric reads the alphabet of each image from its sample.
test_pipeline = [dict(type='mmpretrain.PackInputs', meta_keys=('sample_idx', 'img_path', 'alphabet'))]
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(type='RetrievalMetric', recall_at=(1, 2, 4, 8), graded=dict(levels=['alphabet'], k=[None, 100]))
test_evaluator = val_evaluator
