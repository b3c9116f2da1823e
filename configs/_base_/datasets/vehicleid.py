# PKU VehicleID: the official lists; the small test list (800 vehicles), one random gallery image a vehicle, mean over
# ten draws. vehicleid_all_versus_all.py has the other protocol, whose figures are much higher. Batches as for SOP: the
# release of IAA, which lacks this data set, takes three images a class of every large one.
_base_ = './sop.py'

source = dict(type='VehicleID', data_root='data/VehicleID_V1.0')
train_dataloader = dict(dataset=source)
val_dataloader = dict(dataset=dict(size='small', **source))
test_dataloader = val_dataloader
# A query has one positive: MAP@R and RP would repeat Recall@1.
val_evaluator = dict(recall_at=(1, 5), metrics=('Recall@K', 'MRR'), protocol=dict(type='SingleGalleryShot'))
test_evaluator = val_evaluator
