"""A model that embeds, in torch or in the runtime of an exported file."""

# An exported file is embedded with in a process without torch: nothing here imports it.
from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from mmdml.apis.model_names import find_model


class Embedder(Protocol):
    """A model that embeds, whatever it runs in.

    Attributes:
        model_hash: of weights, layers and pre-processing.
        dimensions: length of an embedding.
        gray: whether pictures are read without colors.
    """

    model_hash: str
    dimensions: int
    gray: bool

    def read(self, path: str) -> Any:
        """Return a file as :meth:`prepare` takes it."""

    def prepare(self, read: Any) -> Any:
        """Return one input of what was read, or of the pixels of a picture in memory."""

    def embed(self, prepared: Sequence[Any]) -> np.ndarray:
        """Return ``(N, D)`` float32 rows of length 1 for N inputs."""


def find_embedder(model: Any, pretrained: Any, pipeline: Any, device: Any) -> Embedder:
    """Return the embedder of a name, config or built model.

    Args:
        model: as :class:`~mmdml.apis.ImageEmbeddingInferencer` takes it, and so all others.
        pretrained: of an exported file only True or False, which mean the same.
        pipeline: of an exported file None.
        device: where to compute.

    Raises:
        ValueError: weights or a pipeline for an exported file; see also the inferencer.
    """
    if isinstance(model, str | os.PathLike) and (exported := find_model(model).exported):
        if pipeline is not None or not isinstance(pretrained, bool):
            raise ValueError(f'{exported} has its own weights and pre-processing; pass neither pretrained nor pipeline')
        kind = importlib.import_module('mmdml.export').ExportedEmbedder
        return kind(exported, None if device is None else str(device))
    from mmdml.apis.torch_embedder import TorchEmbedder

    return TorchEmbedder(model, pretrained, pipeline, device)
