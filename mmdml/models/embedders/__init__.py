"""The model, and what brings images and saved features to it."""

from .feature_preprocessor import FeaturePreprocessor
from .image_embedder import ImageEmbedder
from .image_preprocessor import ImagePreprocessor

__all__ = ['FeaturePreprocessor', 'ImageEmbedder', 'ImagePreprocessor']
