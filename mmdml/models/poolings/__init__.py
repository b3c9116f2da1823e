"""Poolings: from a feature map or a sequence of tokens to one vector an image."""

from .map_pooling import (
    GeneralizedMeanPooling,
    GlobalAverageMaxPooling,
    GlobalAveragePooling,
    GlobalMaxPooling,
    GlobalPooling,
)
from .token_pooling import ClassTokenPooling, TokenAveragePooling, TokenPooling
from .unit_pooling import UnitPooling

__all__ = [
    'ClassTokenPooling',
    'GeneralizedMeanPooling',
    'GlobalAverageMaxPooling',
    'GlobalAveragePooling',
    'GlobalMaxPooling',
    'GlobalPooling',
    'TokenAveragePooling',
    'TokenPooling',
    'UnitPooling',
]
