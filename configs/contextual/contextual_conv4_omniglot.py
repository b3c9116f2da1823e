_base_ = [
    '../_base_/models/conv4.py',
    '../_base_/datasets/omniglot.py',
    '../_base_/schedules/omniglot_15e.py',
    '../_base_/default_runtime.py',
]

model = dict(head=dict(loss=dict(type='ContextualLoss', k=4, epsilon=0.05, context=0.4)))
