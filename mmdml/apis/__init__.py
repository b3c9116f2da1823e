"""Models by name, pictures to embeddings, and searches by pictures."""

import importlib

from mmdml.apis.models import get_config, get_model, list_models

# Listing names loads no torch; these do.
_LATER = {
    'ImageEmbeddingInferencer': 'embedding_inferencer',
    'ImageRetrievalInferencer': 'retrieval_inferencer',
    'RayEmbedder': 'ray_embedder',
    'update_gallery': 'gallery_update',
}

__all__ = [
    'ImageEmbeddingInferencer',
    'ImageRetrievalInferencer',
    'RayEmbedder',
    'get_config',
    'get_model',
    'list_models',
    'update_gallery',
]


def __getattr__(name: str) -> object:
    if name not in _LATER:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(importlib.import_module(f'{__name__}.{_LATER[name]}'), name)
