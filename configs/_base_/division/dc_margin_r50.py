# The CVPR release: 200 epochs, joined from 80, fine-tuned from 190, clustered every 2. Set the number of learners.
_base_ = './margin_r50.py'

model = dict(neck=dict(type='DivideAndConquerEmbedding'), head=dict(type='DivideAndConquerHead'))
custom_hooks = [dict(type='DivisionHook', divide_until=80, fine_tune_from=190, interval=2)]
