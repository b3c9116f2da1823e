"""What the parts hand to each other."""

from .pair_batch import PairBatch, Pairs, Triplets
from .rows import Rows

__all__ = ['PairBatch', 'Pairs', 'Rows', 'Triplets']
