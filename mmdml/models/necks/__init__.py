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
from .token_pooling import ClassTokenPooling, TokenAveragePooling, TokenPooling

__all__ = [
    'ClassTokenPooling',
    'DivideAndConquerEmbedding',
    'GeneralizedMeanPooling',
    'GlobalAverageMaxPooling',
    'GlobalAveragePooling',
    'GlobalMaxPooling',
    'GlobalPooling',
    'LinearEmbedding',
    'TokenAveragePooling',
    'TokenPooling',
]
