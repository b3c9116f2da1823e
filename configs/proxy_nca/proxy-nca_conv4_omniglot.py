_base_ = [
    '../_base_/models/conv4.py',
    '../_base_/datasets/omniglot.py',
    '../_base_/schedules/omniglot_15e.py',
    '../_base_/default_runtime.py',
]

# One proxy for each of the 964 training classes, as wide as the embedding.
model = dict(head=dict(loss=dict(type='ProxyNCALoss', num_classes=964, embed_dim=128)))
