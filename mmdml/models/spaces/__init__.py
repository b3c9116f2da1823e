"""Spaces other than the sphere: how similar two embeddings are."""

from .poincare_ball import PoincareBall

__all__ = ['PoincareBall']
