# The TPAMI release's command for SOP; its K for VehicleID is not known to us.
_base_ = ['../_base_/division/vehicleid.py', '../_base_/division/dcplus_margin_r50.py']

model = dict(neck=dict(num_learners=32))
train_dataloader = dict(sampler=dict(images_per_class=2))
