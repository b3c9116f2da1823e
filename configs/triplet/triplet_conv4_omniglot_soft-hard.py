_base_ = [
    '../_base_/models/conv4.py',
    '../_base_/datasets/omniglot.py',
    '../_base_/schedules/omniglot_15e.py',
    '../_base_/default_runtime.py',
]

# Batch hard with the soft margin, Hermans et al. (2017).
model = dict(
    head=dict(loss=dict(type='TripletLoss', margin=0.0, soft=True, reduction='mean'), miner=dict(type='BatchHardMiner'))
)
