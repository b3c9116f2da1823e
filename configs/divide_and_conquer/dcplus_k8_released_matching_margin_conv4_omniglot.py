# For the record: clusters go to learners by the inverse of the best permutation, as in both releases.
_base_ = './dcplus_k8_margin_conv4_omniglot.py'

custom_hooks = [dict(num_clusters=8, matching='released', **_base_.division)]
