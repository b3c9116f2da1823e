# A hidden layer and the embedding layer on the features of a frozen backbone (../datasets/features.py).
_base_ = './linear.py'

model = dict(neck=dict(type='MLPEmbedding', hidden=(512,), norm='layer', dropout=0.1))
