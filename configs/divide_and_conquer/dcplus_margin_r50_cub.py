# The TPAMI release's command for SOP (d = 512, 180 epochs, joined from 80, learned masks x100, diversity 0.01) on CUB.
# Its K and batches for CUB are not known to us. Our choice: K = 4 as in the CVPR paper, and batches of 128 x 4, the
# default of the release's command line.
_base_ = './dc_margin_r50_cub.py'

model = dict(
    neck=dict(embed_dim=512, division='masks', learned=True),
    head=dict(diversity_weight=0.01),
)
optim_wrapper = dict(paramwise_cfg=dict(custom_keys={'masks': dict(lr_mult=100)}))
train_cfg = dict(max_epochs=180)
custom_hooks = [dict(type='DivisionHook', num_clusters=4, hierarchical=True, divide_until=80, interval=2)]
