"""The maths of retrieval scores: pure functions, no MMEngine."""

from .retrieval import DISTANCES, METRIC_FUNCTIONS, retrieval_scores

__all__ = ['DISTANCES', 'METRIC_FUNCTIONS', 'retrieval_scores']
