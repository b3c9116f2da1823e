# One learner: the plain layer and loss, with as many updates as the divided runs and batches from the same sampler.
_base_ = '../margin/margin_conv4_omniglot.py'

train_dataloader = dict(
    sampler=dict(_delete_=True, type='ClusterPKSampler', batch_size=128, images_per_class=4),
)
# Of use to the divided runs that inherit this: a step leaves idle learners without gradient.
find_unused_parameters = True
