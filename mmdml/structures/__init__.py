"""What the parts hand to each other."""

from .embeddings import Embeddings, EmbeddingSubscriber
from .mined import Mined, Pairs, Triplets
from .pair_batch import PairBatch, Space
from .pair_rules import PairRules, PairRulesReceiver
from .partition import ActiveLearner, Partition
from .progress import Progress
from .row_facts import GALLERY, QUERY, QUERY_AND_GALLERY, ColumnReader, RowFacts
from .rows import Rows
from .sample_batch import SampleBatch, indices_of, labels_of
from .step_context import LateStarter, LearnerProvider, RowReceiver, StepContext, TeacherReceiver

__all__ = [
    'GALLERY',
    'QUERY',
    'QUERY_AND_GALLERY',
    'ActiveLearner',
    'ColumnReader',
    'EmbeddingSubscriber',
    'Embeddings',
    'LateStarter',
    'LearnerProvider',
    'Mined',
    'PairBatch',
    'PairRules',
    'PairRulesReceiver',
    'Pairs',
    'Partition',
    'Progress',
    'RowFacts',
    'RowReceiver',
    'Rows',
    'SampleBatch',
    'Space',
    'StepContext',
    'TeacherReceiver',
    'Triplets',
    'indices_of',
    'labels_of',
]
