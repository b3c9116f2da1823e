_base_ = [
    '../_base_/models/conv4.py',
    '../_base_/datasets/omniglot.py',
    '../_base_/schedules/omniglot_15e.py',
    '../_base_/default_runtime.py',
]

# Xuan et al. (WACV 2020): the nearest positive of each anchor, with a semi-hard negative.
model = dict(head=dict(loss=dict(type='TripletLoss', reduction='mean'), miner=dict(type='EasyPositiveMiner')))
