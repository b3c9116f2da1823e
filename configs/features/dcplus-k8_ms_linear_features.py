_base_ = './dcplus-k8_margin_linear_features.py'

model = dict(head=dict(loss=dict(_delete_=True, type='MultiSimilarityLoss'), miner=None))
