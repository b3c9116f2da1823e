# Proxy-NCA in four slices: a row of the CVPR paper's table on CUB, with our settings for the margin loss.
_base_ = './dc_margin_r50_cub.py'

loss = dict(_delete_=True, type='ProxyNCALoss', num_classes=100, embed_dim=128, num_slices=4)
model = dict(head=dict(loss=loss, miner=None))
