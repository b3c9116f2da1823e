_base_ = ['mmdml::triplet/triplet_conv4_omniglot.py']

custom_imports = dict(
    imports=['example_project.random_negative_miner', 'example_project.midpoint_generator'],
    allow_failed_imports=False,
)

model = dict(
    head=dict(
        miner=dict(type='RandomNegativeMiner', farthest=1.2),
        sources=dict(midpoints=dict(type='MidpointGenerator', start=1)),
    )
)
