_base_ = ['./dc-k1_margin_mobilenet-v2_grocery.py', '../_base_/division/tpami_10e.py']

model = dict(
    neck=dict(type='DivideAndConquerEmbedding', num_learners=4, division='masks', learned=True),
    head=dict(
        type='DivideAndConquerHead',
        regularizers=dict(diversity=dict(type='MaskDiversity', weight=0.01)),
    ),
)
optim_wrapper = dict(paramwise_cfg=dict(custom_keys={'masks': dict(lr_mult=10)}))
