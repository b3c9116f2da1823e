# PKU VehicleID with the input of CUB; batches of 80, as both releases. One random gallery image a vehicle, as papers
# compare; the releases search all images by all (protocol=dict(type='AllVersusAll'), much higher figures).
_base_ = './cub200.py'

source = dict(type='VehicleID', data_root='data/VehicleID_V1.0')
train_dataloader = dict(
    batch_size=80,
    sampler=dict(batch_size=80),
    dataset=source,
)
val_dataloader = dict(dataset=dict(**source, size='small'))
test_dataloader = val_dataloader
val_evaluator = dict(recall_at=(1, 5), metrics=('Recall@K', 'MRR'), protocol=dict(type='SingleGalleryShot'))
test_evaluator = val_evaluator
auto_scale_lr = dict(base_batch_size=80)
