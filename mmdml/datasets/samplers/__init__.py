"""Samplers: which images make a batch."""

from .cluster_pk_sampler import ClusterPKSampler
from .pk_sampler import Draw, PKSampler

__all__ = ['ClusterPKSampler', 'Draw', 'PKSampler']
