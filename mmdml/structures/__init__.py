"""What the parts hand to each other."""

from .pair_batch import PairBatch, Pairs, Triplets
from .partition import ActiveLearner, Partition
from .progress import Progress
from .row_facts import GALLERY, QUERY, QUERY_AND_GALLERY, RowFacts
from .rows import Rows

__all__ = [
    'GALLERY',
    'QUERY',
    'QUERY_AND_GALLERY',
    'ActiveLearner',
    'PairBatch',
    'Pairs',
    'Partition',
    'Progress',
    'RowFacts',
    'Rows',
    'Triplets',
]
