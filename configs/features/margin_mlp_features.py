_base_ = [
    '../_base_/models/mlp.py',
    '../_base_/datasets/features.py',
    '../_base_/schedules/features_20e.py',
]

model = dict(head=dict(loss=dict(type='MarginLoss'), miner=dict(type='DistanceWeightedMiner')))
# The learning rate is the best of 3e-4, 1e-3 and 3e-3 on validation classes (experiments/features_val.yml).
optim_wrapper = dict(optimizer=dict(lr=3e-4))
