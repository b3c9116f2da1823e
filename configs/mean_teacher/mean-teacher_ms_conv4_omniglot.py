_base_ = [
    '../_base_/models/conv4.py',
    '../_base_/datasets/omniglot.py',
    '../_base_/schedules/omniglot_15e.py',
    '../_base_/default_runtime.py',
]

# An average over about the last 100 of 2,265 updates; neither momentum nor weight is tuned.
model = dict(
    head=dict(
        loss=dict(type='MultiSimilarityLoss'),
        distillations=dict(teacher=dict(type='MeanTeacher', weight=1.0, match='similarity', temperature=0.1, start=1)),
    )
)
custom_hooks = [dict(type='MeanTeacherHook', momentum=0.01)]
