# Proxy-NCA, one learner: a row of the CVPR paper's table on CUB, with our settings for the margin loss.
_base_ = './dc_k1_margin_r50_cub.py'

model = dict(head=dict(loss=dict(_delete_=True, type='ProxyNCALoss', num_classes=100, embed_dim=128), miner=None))
