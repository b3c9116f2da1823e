# The embedding layer learns ten times as fast as the backbone (the paper of IAA, Sec. VI-B2). Use: add this file to the
# _base_ list, and optim_wrapper = dict(paramwise_cfg={{_base_.head_lr_x10}}).
head_lr_x10 = dict(custom_keys={'neck': dict(lr_mult=10)})
