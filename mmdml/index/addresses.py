"""Stores by their addresses."""

import os
from pathlib import Path

from mmdml.index.faiss_store import FaissStore
from mmdml.index.milvus_client import is_cluster
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
        address: the path of a folder, for a :class:`FaissStore`; a path that ends in ``.db``, or
            ``https://host:19530#collection``, for a :class:`~mmdml.index.milvus_store.MilvusStore` (extra ``milvus``).
        dimensions: length of the embeddings, for a new store.
        model_hash: of the model, for a new store.
        write: allow changes.
        model: name of the model, for a new store.
    """
    kind: type[VectorStore] = FaissStore
    if is_cluster(os.fspath(address)) or os.fspath(address).endswith('.db'):
        from mmdml.index.milvus_store import MilvusStore

        kind = MilvusStore
    return kind.open(address, dimensions, model_hash, write, model)
