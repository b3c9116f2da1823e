"""What the parts hand to each other."""

from .mined import Mined, Pairs, Triplets
from .pair_batch import PairBatch, Space
from .partition import ActiveLearner, Partition
from .progress import Progress
from .row_facts import GALLERY, QUERY, QUERY_AND_GALLERY, RowFacts
from .rows import Rows

__all__ = [
    'GALLERY',
    'QUERY',
    'QUERY_AND_GALLERY',
    'ActiveLearner',
    'Mined',
    'PairBatch',
    'Pairs',
    'Partition',
    'Progress',
    'RowFacts',
    'Rows',
    'Space',
    'Triplets',
]
