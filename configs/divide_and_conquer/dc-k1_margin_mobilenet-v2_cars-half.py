# One learner: the plain layer and loss, with as many updates as the divided runs and batches from the same sampler.
_base_ = [
    '../_base_/models/mobilenet-v2.py',
    '../_base_/datasets/cars-half.py',
    '../_base_/schedules/photographs_10e.py',
    '../_base_/presets/head-lr-x10.py',
    '../_base_/default_runtime.py',
]
model = dict(
    neck=dict(embed_dim=128), head=dict(loss=dict(type='MarginLoss'), miner=dict(type='DistanceWeightedMiner'))
)
train_dataloader = dict(
    sampler=dict(_delete_=True, type='ClusterPKSampler', batch_size=64, images_per_class=4),
)
optim_wrapper = dict(paramwise_cfg={{_base_.head_lr_x10}})
# Of use to the divided runs that inherit this: a step leaves idle learners without gradient.
find_unused_parameters = True
