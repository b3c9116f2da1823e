_base_ = [
    '../_base_/models/conv4.py',
    '../_base_/datasets/omniglot.py',
    '../_base_/schedules/omniglot_15e.py',
    '../_base_/default_runtime.py',
]

# Every width that is trained is scored, from one pass over the images.
val_evaluator = dict(widths=(64, 32, 16))
test_evaluator = val_evaluator

model = dict(head=dict(loss=dict(type='MatryoshkaLoss', loss=dict(type='MultiSimilarityLoss'))))
