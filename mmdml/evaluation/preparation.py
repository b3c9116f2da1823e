"""What is done to queries and gallery before a search: whitening, then query expansion."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmdml.functional.embedding_files import read_columns
from mmdml.functional.inputs import to_matrix
from mmdml.functional.query_expansion import alpha_query_expansion
from mmdml.functional.space import unit_rows
from mmdml.functional.whitening import PCAWhitening
from mmdml.utils.near_names import check_settings
from mmdml.utils.numbers import is_whole


class Preparation:
    """Whitening and query expansion of both sides of a search; what is None is left out.

    Args:
        distance: of the search.
        whitening: ``dim`` and ``eps`` of :meth:`PCAWhitening.fit`, and ``fit``: 'gallery' or a file of embeddings.
        query_expansion: ``k`` and ``alpha`` of :func:`~mmdml.functional.query_expansion.alpha_query_expansion`.

    Raises:
        ValueError: if a setting is out of range, a file cannot be read, or expansion is wanted for another distance
            than the cosine.
        TypeError: if there is no setting of a name.
    """

    def __init__(
        self, distance: str, whitening: Mapping[str, Any] | None, query_expansion: Mapping[str, Any] | None
    ) -> None:
        shown = None if whitening is None else {**whitening, 'fit': whitening.get('fit', 'gallery')}
        #: What is done, by name, for a description.
        self.settings = dict(whitening=shown, query_expansion=query_expansion)
        self.query_expansion = query_expansion
        if query_expansion is not None:
            if distance != 'cosine':
                raise ValueError(f"query expansion is made for distance='cosine', got {distance!r}")
            check_settings('query_expansion', query_expansion, alpha_query_expansion)
            alpha_query_expansion(torch.eye(4), **query_expansion)
        self.whitening = None if whitening is None else _Whitening(distance, **whitening)

    @property
    def compares_gallery_rows(self) -> bool:
        """Whether gallery rows change each other or the queries: the scores are then transductive."""
        return self.query_expansion is not None or (self.whitening is not None and self.whitening.fitted is None)

    def __call__(
        self,
        query: Tensor,
        gallery: Tensor | None,
        ids: Mapping[str, np.ndarray],
        device: str | torch.device | None,
    ) -> tuple[Tensor, Tensor | None]:
        """Query and gallery as they are searched.

        Args:
            query: ``(Q, D)``.
            gallery: ``(G, D)``; None: the queries search each other.
            ids: ``query_ids`` and ``gallery_ids`` where they are known.
            device: where to expand.
        """
        if self.whitening is not None:
            query, gallery = self.whitening(query, gallery)
        if self.query_expansion is not None:
            query = alpha_query_expansion(query, gallery, device=device, **ids, **self.query_expansion)
        return query, gallery


class _Whitening:
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
        if dim is not None and (not is_whole(dim) or dim < 1):
            raise ValueError(f'whitening: dim must be an integer of at least 1, got {dim!r}')
        if not isinstance(fit, str):
            raise ValueError(f"whitening: fit must be 'gallery' or the name of a file, got {fit!r}")
        self.is_cosine = distance == 'cosine'
        self.fit = fit
        self.settings = settings
        check_settings('whitening', settings, PCAWhitening.fit)
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
        return unit_rows(rows) if self.is_cosine else rows
