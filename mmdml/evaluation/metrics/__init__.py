"""Metrics that a config can name."""

from .retrieval_metric import ResultsMatrix, RetrievalMetric

__all__ = ['ResultsMatrix', 'RetrievalMetric']
