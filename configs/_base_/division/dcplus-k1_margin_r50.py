# One learner beside the TPAMI release's command: d = 512, 180 epochs.
_base_ = './margin_r50.py'

model = dict(neck=dict(embed_dim=512))
train_cfg = dict(max_epochs=180)
