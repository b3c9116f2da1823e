"""Models as files that run without this package's training code: ONNX, OpenVINO and torch.export.

Reading an exported file loads no torch.
"""

import importlib

from .exported_embedder import ExportedEmbedder
from .preparation import Preparation

# These load torch.
_LATER = {'EmbeddingGraph': 'embedding_graph', 'export_embedder': 'exporting', 'preparation_of': 'pipeline_steps'}

__all__ = ['EmbeddingGraph', 'ExportedEmbedder', 'Preparation', 'export_embedder', 'preparation_of']


def __getattr__(name: str) -> object:
    if name not in _LATER:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(importlib.import_module(f'{__name__}.{_LATER[name]}'), name)
