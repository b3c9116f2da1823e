_base_ = [
    '../_base_/models/conv4.py',
    '../_base_/datasets/omniglot.py',
    '../_base_/schedules/omniglot_15e.py',
    '../_base_/default_runtime.py',
]

model = dict(
    head=dict(
        loss=dict(type='NPairsLoss', scale=16.0, learn_scale=False),
        sources=dict(symmetrical=dict(type='SymmetricalSynthesis')),
    )
)
