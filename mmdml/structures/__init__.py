"""What the parts hand to each other."""

from .pair_batch import PairBatch, Pairs, Triplets
from .partition import ActiveLearner, Partition
from .rows import Rows

__all__ = ['ActiveLearner', 'PairBatch', 'Pairs', 'Partition', 'Rows', 'Triplets']
