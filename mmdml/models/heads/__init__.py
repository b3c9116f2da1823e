"""Heads: from raw embeddings to a scalar."""

from .divide_and_conquer_head import DivideAndConquerHead
from .embedding_head import EmbeddingHead
from .regularizers import MaskDiversity

__all__ = ['DivideAndConquerHead', 'EmbeddingHead', 'MaskDiversity']
