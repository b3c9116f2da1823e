"""An exported file as a model that embeds pictures."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmdml.export.preparation import Preparation
from mmdml.export.runtimes import FACTS_KEY, open_runtime

#: Version of the facts in a file.
VERSION = 1


class ExportedEmbedder:
    """Embed pictures with an exported model; an ``.onnx`` file needs no torch.

    Args:
        path: of an ``.onnx`` or ``.xml`` (OpenVINO) file that ``mmdml export`` wrote.
        device: where to compute, e.g. ``'cpu'`` or ``'cuda'``. Default: the GPU where the engine has one.

    Attributes:
        name: of the model that was exported.
        model_hash: of that model, so that its stores can be searched with this file.
        dimensions: length D of an embedding.
        preparation: from a file to the graph's input.

    Raises:
        FileNotFoundError: there is no such file.
        ImportError: the engine is not installed.
        ValueError: the file is damaged, or was not written by ``mmdml export``.

    Example::

        embedder = ExportedEmbedder('model.onnx')
        image = embedder.prepare(embedder.read('photo.jpg'))
        embedder.embed([image])  # (1, D), of length 1
    """

    def __init__(self, path: str | Path, device: str | None = None) -> None:
        self.path = os.fspath(path)
        self._runtime = open_runtime(self.path, device)
        text = self._runtime.facts()
        if text is None:
            raise ValueError(
                f'{self.path} does not say how pictures are prepared (no metadata {FACTS_KEY!r}); write it with: '
                'mmdml export MODEL --out FILE'
            )
        facts = self._read_facts(text)
        self.name: str = facts['name']
        self.model_hash: str = facts['model_hash']
        self.dimensions: int = facts['dimensions']
        self.preparation: Preparation = facts['preparation']

    def _read_facts(self, text: str) -> dict[str, Any]:
        """Return the facts of the file, with its preparation built."""
        where = f'{self.path}: the metadata {FACTS_KEY!r}'
        try:
            facts = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ValueError(f'{where} is damaged, export the model again: {error}') from error
        if not isinstance(facts, dict):
            raise ValueError(f'{where} must be a mapping, got {facts!r}: export the model again')
        if facts.get('version') != VERSION:
            raise ValueError(
                f'{self.path} was written in version {facts.get("version")} of the format, this mmdml reads {VERSION}: '
                'export the model again'
            )
        for name, kind in dict(name=str, model_hash=str, dimensions=int, preparation=dict).items():
            if not isinstance(facts.get(name), kind):
                raise ValueError(
                    f'{where} must have {name!r} as {kind.__name__}, got {facts.get(name)!r}: export the model again'
                )
        try:
            return dict(facts, preparation=Preparation(**facts['preparation']))
        except (TypeError, ValueError) as error:
            raise ValueError(f"{where} has a 'preparation' that cannot be built: {error}") from error

    @property
    def gray(self) -> bool:
        """Whether pictures are read without colors."""
        return self.preparation.gray

    def read(self, path: str) -> np.ndarray:
        """Return the pixels of a file, see :meth:`Preparation.read`."""
        return self.preparation.read(path)

    def prepare(self, pixels: np.ndarray) -> np.ndarray:
        """Pixels, in OpenCV's order of colors -> ``(H, W, C)`` input of the graph, see :class:`Preparation`."""
        return self.preparation(pixels)

    def embed(self, prepared: Sequence[np.ndarray]) -> np.ndarray:
        """``N`` prepared pictures ``(H, W, C)`` -> ``(N, D)`` float32 rows of length 1."""
        return self._runtime(np.stack(prepared))
