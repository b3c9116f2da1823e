"""Pooling and embedding layers."""

from .linear_embedding import LinearEmbedding
from .pooling import (
    GeneralizedMeanPooling,
    GlobalAverageMaxPooling,
    GlobalAveragePooling,
    GlobalMaxPooling,
    GlobalPooling,
)

__all__ = [
    'GeneralizedMeanPooling',
    'GlobalAverageMaxPooling',
    'GlobalAveragePooling',
    'GlobalMaxPooling',
    'GlobalPooling',
    'LinearEmbedding',
]
