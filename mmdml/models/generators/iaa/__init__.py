"""IAA: intra-class adaptive augmentation with neighbor correction."""

from .class_statistics import ClassStatistics, class_statistics, update_statistics
from .estimator import IAAEstimator
from .full_covariance import CovarianceBank, full_covariance_noise
from .generator import IAAGenerator
from .neighbor_correction import correct_variance, correction_weight, pooled_variance
from .neighbors import neighbor_weights

__all__ = [
    'ClassStatistics',
    'CovarianceBank',
    'IAAEstimator',
    'IAAGenerator',
    'class_statistics',
    'correct_variance',
    'correction_weight',
    'full_covariance_noise',
    'neighbor_weights',
    'pooled_variance',
    'update_statistics',
]
