# The CVPR release's recipe (d = 128, Adam 1e-5, weight decay 1e-4, dropout 0.01; 200 epochs, joined from 80, fine-tuned
# from 190, clustered every 2) with the paper's values for CUB: K = 4, batches of 128. CUB itself was not released.
_base_ = [
    '../_base_/models/r50.py',
    '../_base_/division/cub200.py',
    '../_base_/division/schedule_r50.py',
    '../_base_/default_runtime.py',
]

model = dict(
    pooling=dict(type='GlobalAveragePooling'),
    neck=dict(type='DivideAndConquerEmbedding', embed_dim=128, num_learners=4, dropout=0.01),
    head=dict(
        type='DivideAndConquerHead',
        num_learners=4,
        loss=dict(type='MarginLoss'),
        miner=dict(type='DistanceWeightedMiner'),
    ),
)
train_cfg = dict(max_epochs=200)
custom_hooks = [dict(type='DivisionHook', num_clusters=4, divide_until=80, fine_tune_from=190, interval=2)]
find_unused_parameters = True
