"""Heads: from raw embeddings to a scalar."""

from .divide_and_conquer_head import DivideAndConquerHead
from .embedding_head import EmbeddingHead
from .regularizers import AntiCollapse, CrossBatchSpread, EmbeddingNorm, KoLeo, LossTerm, MaskDiversity

__all__ = [
    'AntiCollapse',
    'CrossBatchSpread',
    'DivideAndConquerHead',
    'EmbeddingHead',
    'EmbeddingNorm',
    'KoLeo',
    'LossTerm',
    'MaskDiversity',
]
