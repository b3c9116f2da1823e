_base_ = [
    '../_base_/models/conv4.py',
    '../_base_/datasets/omniglot.py',
    '../_base_/schedules/omniglot_15e.py',
    '../_base_/default_runtime.py',
]

model = dict(
    neck=dict(_delete_=True, type='HyperbolicEmbedding', in_channels=64, embed_dim=128, curvature=0.1, clip_radius=2.3),
    head=dict(loss=dict(type='NTXentLoss', temperature=0.2), space=dict(type='PoincareBall', curvature=0.1)),
)
val_evaluator = dict(distance='hyperbolic')
test_evaluator = dict(distance='hyperbolic')
