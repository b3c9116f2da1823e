_base_ = ['./dc-k1_margin_conv4_omniglot.py', '../_base_/division/cvpr-warmup_15e.py']

model = dict(
    neck=dict(type='DivideAndConquerEmbedding', num_learners=8),
    head=dict(type='DivideAndConquerHead'),
)
