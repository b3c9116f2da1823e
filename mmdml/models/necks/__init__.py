"""Pooling and embedding layers."""

from .divide_and_conquer_embedding import DivideAndConquerEmbedding
from .linear_embedding import LinearEmbedding
from .pooling import (
    GeneralizedMeanPooling,
    GlobalAverageMaxPooling,
    GlobalAveragePooling,
    GlobalMaxPooling,
    GlobalPooling,
)

__all__ = [
    'DivideAndConquerEmbedding',
    'GeneralizedMeanPooling',
    'GlobalAverageMaxPooling',
    'GlobalAveragePooling',
    'GlobalMaxPooling',
    'GlobalPooling',
    'LinearEmbedding',
]
