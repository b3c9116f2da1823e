_base_ = [
    '../_base_/models/conv4.py',
    '../_base_/datasets/omniglot.py',
    '../_base_/schedules/omniglot_15e.py',
    '../_base_/default_runtime.py',
]

model = dict(
    head=dict(
        loss=dict(type='TripletLoss', margin=0.2, reduction='mean'),
        sources=dict(expansion=dict(type='EmbeddingExpansion', num_points=2)),
    )
)
