# Eight learners that share the embedding by learned masks.
_base_ = './dc-k8_margin_linear_features.py'

model = dict(
    neck=dict(division='masks', learned=True),
    head=dict(regularizers=dict(diversity=dict(type='MaskDiversity', weight=0.01))),
)
custom_hooks = [
    dict(type='DivisionHook', hierarchical=True, divide_until=17, fine_tune_from=17, interval=2, cluster_on='embedding')
]
optim_wrapper = dict(paramwise_cfg=dict(custom_keys={'masks': dict(lr_mult=10)}))
