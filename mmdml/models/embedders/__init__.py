"""The model."""

from .image_embedder import ImageEmbedder

__all__ = ['ImageEmbedder']
