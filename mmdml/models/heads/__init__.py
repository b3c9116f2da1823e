"""Heads: from raw embeddings to a scalar."""

from .divide_and_conquer_head import DivideAndConquerHead
from .embedding_head import EmbeddingHead

__all__ = ['DivideAndConquerHead', 'EmbeddingHead']
