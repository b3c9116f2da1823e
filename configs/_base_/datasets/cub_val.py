# CUB-200-2011 with a fifth of the training classes held out: select on those 20 classes, test on the 100 unseen ones.
# Use it in place of cub.py and select the best checkpoint in your config by
#   default_hooks = dict(checkpoint=dict(save_best='retrieval/MAP@R'))
# Training sees fewer classes, so its figures do not compare with those of cub.py.
_base_ = './cub.py'

val_classes = 0.2
train_dataloader = dict(dataset=dict(val_classes=val_classes))
val_dataloader = dict(dataset=dict(split='val', val_classes=val_classes))
