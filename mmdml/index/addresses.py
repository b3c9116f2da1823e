"""Stores by their addresses."""

from pathlib import Path

from mmdml.index.faiss_store import FaissStore
from mmdml.index.vector_store import VectorStore


def open_store(
    address: str | Path,
    dimensions: int | None = None,
    model_hash: str | None = None,
    write: bool = False,
    model: str = '',
) -> VectorStore:
    """Open the store at an address, see :meth:`VectorStore.open`.

    Args:
        address: the path of a folder: a :class:`FaissStore`.
        dimensions: length of the embeddings, for a new store.
        model_hash: of the model, for a new store.
        write: allow changes.
        model: name of the model, for a new store.
    """
    return FaissStore.open(address, dimensions, model_hash, write, model)
