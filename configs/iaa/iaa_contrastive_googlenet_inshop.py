# The values of the released command.
_base_ = ['../contrastive/contrastive_googlenet_inshop.py', '../_base_/iaa.py']

model = dict(head=dict(sources=dict(iaa=dict(_base_.iaa, num_copies=2, lam=0.6))))
