_base_ = [
    '../_base_/models/linear.py',
    '../_base_/datasets/features.py',
    '../_base_/schedules/features_20e.py',
]

# One proxy for each of the 40 training classes of grocery, as wide as the embedding.
model = dict(head=dict(loss=dict(type='ProxyNCALoss', num_classes=40, embed_dim=128)))
