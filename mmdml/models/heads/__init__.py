"""Heads: from raw embeddings to a scalar."""

from .embedding_head import EmbeddingHead

__all__ = ['EmbeddingHead']
