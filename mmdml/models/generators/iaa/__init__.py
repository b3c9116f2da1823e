"""IAA: intra-class adaptive augmentation with neighbor correction."""

from .class_statistics import ClassStatistics, class_statistics, merge_statistics, update_statistics
from .full_covariance import CovarianceBank, full_covariance_noise
from .generator import IAAGenerator
from .neighbor_correction import correct_variance, correction_weight, neighbor_weights, pooled_variance

__all__ = [
    'ClassStatistics',
    'CovarianceBank',
    'IAAGenerator',
    'class_statistics',
    'correct_variance',
    'correction_weight',
    'full_covariance_noise',
    'merge_statistics',
    'neighbor_weights',
    'pooled_variance',
    'update_statistics',
]
