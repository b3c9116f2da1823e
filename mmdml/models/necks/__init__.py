"""Necks: embedding layers."""

from .base import EmbeddingNeck
from .divide_and_conquer_embedding import DivideAndConquerEmbedding
from .linear_embedding import LinearEmbedding

__all__ = ['DivideAndConquerEmbedding', 'EmbeddingNeck', 'LinearEmbedding']
