# Binary masks: the slices of dc-k8, normalized as a whole and grown by halving.
_base_ = ['./dc-k1_margin_conv4_omniglot.py', '../_base_/division/tpami_15e.py']

model = dict(
    neck=dict(type='DivideAndConquerEmbedding', num_learners=8, division='masks', learned=False),
    head=dict(type='DivideAndConquerHead'),
)
