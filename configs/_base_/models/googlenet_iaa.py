# IAA's GoogLeNet as released: the images are not re-scaled to the range of the weights. For comparison with IAA's
# figures; for anything else take googlenet.py.
_base_ = './googlenet.py'

model = dict(backbone=dict(transform_input=False))
