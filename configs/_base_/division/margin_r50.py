# One learner: what the divided configs are to be compared with, at equal numbers of updates. d = 128, dropout 0.01 and
# margin loss (alpha 0.2, beta 1.2) as in the CVPR release; negatives by distance-weighted sampling, as in the papers.
_base_ = ['../models/r50.py', './schedule_r50.py', '../default_runtime.py']

model = dict(
    pooling=dict(type='GlobalAveragePooling'),
    neck=dict(embed_dim=128, dropout=0.01),
    head=dict(loss=dict(type='MarginLoss'), miner=dict(type='DistanceWeightedMiner')),
)
train_cfg = dict(max_epochs=200)
# Of use to the divided runs that inherit this: a step leaves idle learners without gradient.
find_unused_parameters = True
