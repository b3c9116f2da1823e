# Semi-hard triplets in four slices: a row of the CVPR paper's table on CUB, with our settings for the margin loss.
_base_ = './dc_margin_r50_cub.py'

model = dict(
    head=dict(
        loss=dict(_delete_=True, type='TripletLoss', reduction='mean'), miner=dict(_delete_=True, type='SemiHardMiner')
    )
)
