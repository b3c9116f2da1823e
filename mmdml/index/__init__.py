"""Galleries that stay: embeddings with paths and labels, in a store that outlives the process."""

from mmdml.index.local_store import LocalStore
from mmdml.index.vector_store import Item, Neighbors, Row, VectorStore

__all__ = ['Item', 'LocalStore', 'Neighbors', 'Row', 'VectorStore']
