"""Galleries that stay: embeddings with paths and labels, in a store that outlives the process."""

from mmdml.index.addresses import open_store
from mmdml.index.faiss_store import FaissStore
from mmdml.index.local_store import LocalStore
from mmdml.index.vector_store import Item, Neighbors, Row, VectorStore

__all__ = ['FaissStore', 'Item', 'LocalStore', 'Neighbors', 'Row', 'VectorStore', 'open_store']
