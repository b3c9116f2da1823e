"""Samplers: which images make a batch."""

from .cluster_pk_sampler import ClusterPKSampler
from .draw import Draw
from .pk_sampler import PKSampler
from .weighted_pk_sampler import WeightedPKSampler

__all__ = ['ClusterPKSampler', 'Draw', 'PKSampler', 'WeightedPKSampler']
