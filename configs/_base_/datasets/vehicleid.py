# PKU VehicleID: the official lists; the small test list (800 vehicles), every image query and gallery. Batches as for
# SOP: the release of IAA, which lacks this data set, takes three images a class of every large one.
_base_ = './sop.py'

source = dict(type='VehicleID', data_root='data/VehicleID_V1.0')
train_dataloader = dict(dataset=source)
val_dataloader = dict(dataset=dict(size='small', **source))
test_dataloader = val_dataloader
val_evaluator = dict(recall_at=(1, 5))
test_evaluator = val_evaluator
