_base_ = ['../multi_similarity/ms_mobilenet-v2_grocery.py']

# data/grocery/classes.csv has the coarse label of each fine one; README.md has the line that makes it.
model = dict(head=dict(targets=dict(type='HierarchyTargets', levels=['coarse'])))
train_dataloader = dict(dataset=dict(class_file='classes.csv'))

test_pipeline = {{_base_.test_pipeline}}
test_pipeline[-1].update(meta_keys=('sample_idx', 'img_path', 'coarse'))
val_dataloader = dict(dataset=dict(class_file='classes.csv', pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(graded=dict(levels=['coarse'], k=[None, 100]))
test_evaluator = val_evaluator
