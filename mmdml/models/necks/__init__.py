"""Necks: embedding layers."""

from .base import EmbeddingNeck
from .divide_and_conquer_embedding import DivideAndConquerEmbedding
from .hyperbolic_embedding import HyperbolicEmbedding
from .identity_embedding import IdentityEmbedding
from .linear_embedding import LinearEmbedding
from .mlp_embedding import MLPEmbedding, ResidualEmbedding

__all__ = [
    'DivideAndConquerEmbedding',
    'EmbeddingNeck',
    'HyperbolicEmbedding',
    'IdentityEmbedding',
    'LinearEmbedding',
    'MLPEmbedding',
    'ResidualEmbedding',
]
