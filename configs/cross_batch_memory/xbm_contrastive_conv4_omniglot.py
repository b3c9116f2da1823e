_base_ = [
    '../_base_/models/conv4.py',
    '../_base_/datasets/omniglot.py',
    '../_base_/schedules/omniglot_15e.py',
    '../_base_/default_runtime.py',
]

# About a fifth of the 19,280 training images, remembered from a tenth of the run on.
model = dict(
    head=dict(
        loss=dict(type='ContrastiveLoss'),
        sources=dict(memory=dict(type='CrossBatchMemory', size=4096, start=0.1)),
    )
)
