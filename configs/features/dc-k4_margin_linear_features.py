# Four learners, each with a slice of the embedding and a cluster of the rows, in the stages of the paper: divided until
# epoch 17 of 20, then the whole embedding on all rows.
_base_ = './margin_linear_features.py'

train_dataloader = dict(
    sampler=dict(_delete_=True, type='ClusterPKSampler', batch_size=64, images_per_class=4, num_batches=15),
)
model = dict(
    neck=dict(type='DivideAndConquerEmbedding', num_learners=4),
    head=dict(type='DivideAndConquerHead'),
)
# The embedding is clustered: the features are frozen, and their clusters would stay what they are.
custom_hooks = [dict(type='DivisionHook', divide_until=17, fine_tune_from=17, interval=2, cluster_on='embedding')]
find_unused_parameters = True
