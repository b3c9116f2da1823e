"""Embedding on a cluster: what Ray Data runs on each of its workers."""

import io
import os
from typing import Any

import numpy as np
from PIL import Image

from mmdml.apis.embedding_inferencer import ImageEmbeddingInferencer


class RayEmbedder:
    """A callable class for ``map_batches`` of Ray Data: batches of paths or file contents in, embeddings out.

    Each worker builds the model once. Rows keep their columns and get ``embedding`` ``(D,)`` float32 and ``error``, why
    a picture has none: its embedding is then zeros. Needs Ray to run on a cluster (``pip install 'mmdml[ray]'``), not
    to be called.

    Args:
        column: with paths, or with file contents as bytes.
        options: of :class:`~mmdml.apis.ImageEmbeddingInferencer`, such as ``model`` and ``pretrained``.

    Example::

        rows = ray.data.read_parquet('images.parquet')
        rows = rows.map_batches(
            RayEmbedder, fn_constructor_kwargs=dict(model='default'), batch_size=256, concurrency=4, num_gpus=1)
        rows.write_parquet('embeddings')
    """

    def __init__(self, column: str = 'path', **options: Any) -> None:
        self.column = column
        self.embed = ImageEmbeddingInferencer(**{'progress': False, **options})

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return the batch with the columns ``embedding`` and ``error``.

        Raises:
            KeyError: the batch has no such column.
        """
        if self.column not in batch:
            raise KeyError(f'RayEmbedder reads the column {self.column!r}, but the rows have {sorted(batch)}')
        values = list(batch[self.column])
        reasons, images = [''] * len(values), {}
        for at, value in enumerate(values):
            if isinstance(value, bytearray | memoryview):
                value = bytes(value)
            if not isinstance(value, str | os.PathLike | bytes | np.ndarray | Image.Image):
                reasons[at] = f'it is neither a path nor a picture, but {type(value).__name__}'
                continue
            if isinstance(value, str | os.PathLike) and os.path.isdir(value):
                reasons[at] = 'it is a folder'
                continue
            try:
                images[at] = Image.open(io.BytesIO(value)) if isinstance(value, bytes) else value
            except (OSError, Image.DecompressionBombError) as error:
                reasons[at] = ' '.join(str(error).split())
        # The inferencer names what has no path by its number among the inputs.
        names = {at: value if isinstance(value, str) else f'image {n}' for n, (at, value) in enumerate(images.items())}
        found = self.embed(list(images.values()))
        reason_of = {each.name: each.reason for each in found.unreadable}
        rows = np.zeros((len(values), self.embed.dimensions), dtype=np.float32)
        rows[[at for at, name in names.items() if name not in reason_of]] = found.embeddings
        for at, name in names.items():
            reasons[at] = reason_of.get(name, '')
        return {**batch, 'embedding': rows, 'error': np.array(reasons)}
