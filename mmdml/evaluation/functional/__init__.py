"""The maths of retrieval scores: pure functions of numpy, scipy and torch; none needs MMEngine."""

from mmdml.functional.query_expansion import alpha_query_expansion
from mmdml.functional.reranking import KReciprocalEncoding
from mmdml.functional.spaces import DISTANCES
from mmdml.functional.whitening import PCAWhitening
from mmdml.utils.progress import LogProgress

from .clustering import clustering_scores
from .measures import parse_measures
from .options import SearchOptions
from .partitions import (
    CLUSTERING_METRICS,
    adjusted_mutual_information,
    adjusted_rand_index,
    completeness,
    homogeneity,
    normalized_mutual_information,
    pairwise_f1,
)
from .retrieval import retrieval_scores
from .sharded import sharded_retrieval_scores

__all__ = [
    'CLUSTERING_METRICS',
    'DISTANCES',
    'KReciprocalEncoding',
    'LogProgress',
    'PCAWhitening',
    'SearchOptions',
    'adjusted_mutual_information',
    'adjusted_rand_index',
    'alpha_query_expansion',
    'clustering_scores',
    'completeness',
    'homogeneity',
    'normalized_mutual_information',
    'pairwise_f1',
    'parse_measures',
    'retrieval_scores',
    'sharded_retrieval_scores',
]
