_base_ = './dc-k4_margin_linear_features.py'

model = dict(head=dict(loss=dict(_delete_=True, type='MultiSimilarityLoss'), miner=None))
