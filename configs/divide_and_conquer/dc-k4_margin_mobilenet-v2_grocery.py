_base_ = ['./dc-k1_margin_mobilenet-v2_grocery.py', '../_base_/division/cvpr_10e.py']

model = dict(
    neck=dict(type='DivideAndConquerEmbedding', num_learners=4),
    head=dict(type='DivideAndConquerHead'),
)
