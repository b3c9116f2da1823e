# In-shop Clothes Retrieval: the official list; queries search the gallery. Batches as for SOP.
_base_ = './sop.py'

source = dict(type='InShop', data_root='data/in_shop')
train_dataloader = dict(dataset=source)
val_dataloader = dict(dataset=source)
test_dataloader = val_dataloader
val_evaluator = dict(recall_at=(1, 10, 20, 30, 40, 50))
test_evaluator = val_evaluator
