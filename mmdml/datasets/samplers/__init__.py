"""Samplers: which images make a batch."""

from .draw import Draw
from .pk_sampler import PKSampler

__all__ = ['Draw', 'PKSampler']
