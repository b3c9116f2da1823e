"""Models by name, and pictures to embeddings."""

from mmdml.apis.models import get_config, get_model, list_models

__all__ = ['ImageEmbeddingInferencer', 'get_config', 'get_model', 'list_models']


def __getattr__(name: str) -> object:
    # Listing names loads no torch; the inferencer does.
    if name == 'ImageEmbeddingInferencer':
        from mmdml.apis.embedding_inferencer import ImageEmbeddingInferencer

        return ImageEmbeddingInferencer
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
