"""The math of retrieval scores: pure functions of numpy, scipy and torch; none needs MMEngine."""

from mmdml.functional.distances import DISTANCES
from mmdml.functional.query_expansion import alpha_query_expansion
from mmdml.functional.reranking import KReciprocalEncoding
from mmdml.functional.whitening import PCAWhitening
from mmdml.utils.progress import LogProgress

from .clustering import clustering_scores
from .graded import graded_ndcg, hierarchy_gains
from .options import SearchOptions, parse_measures
from .partitions import (
    CLUSTERING_METRICS,
    adjusted_mutual_information,
    adjusted_rand_index,
    completeness,
    homogeneity,
    normalized_mutual_information,
    pairwise_f1,
)
from .query_values import QueryValues
from .retrieval import retrieval_scores, retrieval_values
from .sharded import sharded_retrieval_scores
from .threshold_consistency import threshold_consistency
from .verification import verification_scores

__all__ = [
    'CLUSTERING_METRICS',
    'DISTANCES',
    'KReciprocalEncoding',
    'LogProgress',
    'PCAWhitening',
    'QueryValues',
    'SearchOptions',
    'adjusted_mutual_information',
    'adjusted_rand_index',
    'alpha_query_expansion',
    'clustering_scores',
    'completeness',
    'graded_ndcg',
    'hierarchy_gains',
    'homogeneity',
    'normalized_mutual_information',
    'pairwise_f1',
    'parse_measures',
    'retrieval_scores',
    'retrieval_values',
    'sharded_retrieval_scores',
    'threshold_consistency',
    'verification_scores',
]
