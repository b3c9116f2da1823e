# The values of the released command.
_base_ = ['../multi_similarity/ms_bninception_sop.py', '../_base_/iaa.py']

model = dict(head=dict(sources=dict(iaa=dict(_base_.iaa, lam=0.5))))
