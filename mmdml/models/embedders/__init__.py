"""The model, and what brings saved features to it."""

from .feature_preprocessor import FeaturePreprocessor
from .image_embedder import ImageEmbedder

__all__ = ['FeaturePreprocessor', 'ImageEmbedder']
