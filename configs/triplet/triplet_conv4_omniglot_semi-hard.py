_base_ = [
    '../_base_/models/conv4.py',
    '../_base_/datasets/omniglot.py',
    '../_base_/schedules/omniglot_15e.py',
    '../_base_/default_runtime.py',
]

# Schroff et al. (2015): the nearest negative beyond each positive.
model = dict(head=dict(loss=dict(type='TripletLoss', reduction='mean'), miner=dict(type='SemiHardMiner')))
