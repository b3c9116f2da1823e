"""What the parts hand to each other."""

from .pair_batch import PairBatch, Pairs, Triplets
from .partition import ActiveLearner, Partition
from .progress import Progress
from .rows import Rows

__all__ = ['ActiveLearner', 'PairBatch', 'Pairs', 'Partition', 'Progress', 'Rows', 'Triplets']
