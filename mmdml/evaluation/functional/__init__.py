"""The maths of retrieval scores: pure functions of numpy, scipy and torch; none needs MMEngine."""

from .clustering import (
    CLUSTERING_METRICS,
    adjusted_mutual_information,
    clustering_scores,
    normalized_mutual_information,
    pairwise_f1,
)
from .measures import parse_measures
from .progress import LogProgress
from .query_expansion import alpha_query_expansion
from .reranking import KReciprocalEncoding
from .retrieval import retrieval_scores
from .sharded import sharded_retrieval_scores
from .spaces import DISTANCES
from .whitening import PCAWhitening

__all__ = [
    'CLUSTERING_METRICS',
    'DISTANCES',
    'KReciprocalEncoding',
    'LogProgress',
    'PCAWhitening',
    'adjusted_mutual_information',
    'alpha_query_expansion',
    'clustering_scores',
    'normalized_mutual_information',
    'pairwise_f1',
    'parse_measures',
    'retrieval_scores',
    'sharded_retrieval_scores',
]
