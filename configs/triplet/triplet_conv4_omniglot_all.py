_base_ = [
    '../_base_/models/conv4.py',
    '../_base_/datasets/omniglot.py',
    '../_base_/schedules/omniglot_15e.py',
    '../_base_/default_runtime.py',
]

# Batch all of Hermans et al. (2017): every positive with every negative, mean over the triplets with a loss.
model = dict(head=dict(loss=dict(type='TripletLoss', negatives='all', reduction='nonzero')))
