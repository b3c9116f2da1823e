# The TPAMI release's command for SOP with binary masks: d = 512, 180 epochs, joined from 80 and never fine-tuned, one
# doubling every 2 epochs. Set the number of learners. The release also freezes the backbone in the first of every 2
# epochs (freeze_backbone=1); here it always trains, so that K = 1 has as many updates.
_base_ = './dcplus-k1_margin_r50.py'

model = dict(
    neck=dict(type='DivideAndConquerEmbedding', division='masks', learned=False),
    head=dict(type='DivideAndConquerHead'),
)
custom_hooks = [dict(type='DivisionHook', hierarchical=True, divide_until=80, interval=2)]
