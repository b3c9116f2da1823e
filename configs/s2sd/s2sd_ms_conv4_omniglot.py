_base_ = [
    '../_base_/models/conv4.py',
    '../_base_/datasets/omniglot.py',
    '../_base_/schedules/omniglot_15e.py',
    '../_base_/default_runtime.py',
]

# Conv4 has 64 features: two wider spaces; weights and start are those of the released code.
model = dict(
    head=dict(
        loss=dict(type='MultiSimilarityLoss'),
        distillations=dict(
            s2sd=dict(
                type='S2SD', in_channels=64, dims=(256, 512), weight=50.0, feature_weight=50.0, feature_start=1000
            )
        ),
    )
)
# The layers into the wider spaces learn and decay as the embedding layer does.
optim_wrapper = dict(paramwise_cfg=dict(custom_keys={'head.distillations': dict(lr_mult=1, decay_mult=1)}))
