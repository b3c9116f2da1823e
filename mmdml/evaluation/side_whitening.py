"""PCA-whitening of both sides of a search."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmdml.functional.embedding_files import read_columns
from mmdml.functional.inputs import to_matrix
from mmdml.functional.whitening import PCAWhitening


class SideWhitening:
    """PCA-whitening of both sides of a search.

    Args:
        distance: of the search: unit vectors are whitened for the cosine, and become unit vectors again.
        fit: 'gallery' (of each search, with leave-one-out all its images), or a file of embeddings.
        settings: ``dim`` and ``eps`` of :meth:`PCAWhitening.fit`.

    Raises:
        ValueError: if a setting is out of range, or the file cannot be read.
        TypeError: if there is no setting of a name.
    """

    def __init__(self, distance: str, fit: str = 'gallery', **settings: Any) -> None:
        dim = settings.get('dim')
        if dim is not None and (dim != int(dim) or dim < 1):
            raise ValueError(f'whitening: dim must be an integer of at least 1, got {dim}')
        self.is_cosine = distance == 'cosine'
        self.fit = fit
        self.settings = settings
        PCAWhitening.fit(torch.eye(4), **{**settings, 'dim': 1})
        self.fitted = None if fit == 'gallery' else self._fit(read_columns(fit)['embeddings'])

    def __call__(self, query: Tensor, gallery: Tensor | None) -> tuple[Tensor, Tensor | None]:
        whitening = self.fitted
        if whitening is None:
            whitening = self._fit(query if gallery is None else gallery)
        query, gallery = (
            None if rows is None else whitening.transform(self._as_searched(rows), normalize=self.is_cosine)
            for rows in (query, gallery)
        )
        return query, gallery

    def _fit(self, rows: Tensor | np.ndarray) -> PCAWhitening:
        return PCAWhitening.fit(self._as_searched(to_matrix('embeddings', rows, None)), **self.settings)

    def _as_searched(self, rows: Tensor) -> Tensor:
        return torch.nn.functional.normalize(rows) if self.is_cosine else rows
