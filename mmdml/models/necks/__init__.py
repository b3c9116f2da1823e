"""Necks: embedding layers."""

from .divide_and_conquer_embedding import DivideAndConquerEmbedding
from .linear_embedding import LinearEmbedding

__all__ = ['DivideAndConquerEmbedding', 'LinearEmbedding']
