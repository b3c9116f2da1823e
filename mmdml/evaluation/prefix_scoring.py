"""Scores of the whole embedding and of parts of its columns, of one collection of embeddings."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmdml.structures.partition import Partition
from mmdml.structures.row_facts import RowFacts
from mmdml.utils.numbers import is_number, is_whole

from .scoring import RetrievalScoring, Scores


class PrefixScoring(RetrievalScoring):
    """:class:`RetrievalScoring` of the embedding, and of prefixes and slices of it.

    A prefix of a Matryoshka embedding (Kusupati et al., NeurIPS 2022) is an embedding of its own, and so is a slice of
    divide and conquer (Sanakoyeu et al., CVPR 2019), where the first k slices are a prefix: both are compared at equal
    widths. The images are embedded once. Scores of the first 64 columns are called 'width64/Recall@1', those of the
    first of several slices 'slice0/Recall@1'.

    Args:
        widths: columns of the prefixes.
        slices: number K of equal slices, those of ``DivideAndConquerEmbedding``; 0 for none.
        settings: those of :class:`RetrievalScoring`.

    Raises:
        ValueError: for a width or number that is no integer or below 1, another distance than the cosine,
            ``values_out``, or a whitening that does not fit a prefix; when scoring, if the embedding is narrower than a
            prefix or the slices.
    """

    def __init__(self, *args: Any, widths: Sequence[int] | int = (), slices: int = 0, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.widths = (widths,) if is_number(widths) else tuple(widths)
        self.slices = slices
        if not all(is_whole(number) for number in (*self.widths, slices)):
            raise ValueError(f'widths and slices must be integers, got {widths!r} and {slices!r}')
        if any(width < 1 for width in self.widths) or slices < 0:
            raise ValueError(f'widths must be at least 1 and slices 0 or more, got {widths} and {slices}')
        if self.widths or slices:
            self._check_parts()

    def _check_parts(self) -> None:
        whitening = self.preparation.whitening
        if self.options.distance != 'cosine':
            raise ValueError(f'widths and slices are compared by cosine, got distance={self.options.distance!r}')
        if self.tables is not None:
            raise ValueError('values_out has the values of one embedding: leave out widths and slices')
        if whitening is None:
            return
        if whitening.fitted is not None:
            raise ValueError(f"whitening of {whitening.fit} fits one width: set fit='gallery' for widths and slices")
        dim = whitening.settings.get('dim') or 1
        if dim > min(self.widths, default=dim):
            raise ValueError(f'whitening keeps dim={dim}, which is more than the smallest of widths={self.widths}')

    def parts(self, width: int) -> dict[str, slice]:
        """Columns by name of an embedding of ``width`` columns.

        Raises:
            ValueError: if it is narrower than a prefix, or has fewer columns than there are slices.
        """
        for name, needed in (('widths', max(self.widths, default=0)), ('slices', self.slices)):
            if needed > width:
                raise ValueError(f'{name} needs {needed} columns, but the embedding has {width}')
        found = {f'width{columns}': slice(0, columns) for columns in self.widths}
        if self.slices:
            slices = Partition(width, self.slices).slices
            found |= {f'slice{number}': columns for number, columns in enumerate(slices)}
        return found

    def __call__(
        self, embeddings: Tensor | np.ndarray, facts: RowFacts, device: str | torch.device | None = None
    ) -> Scores:
        """Scores by name, see :meth:`RetrievalScoring.__call__`."""
        score = super().__call__
        return self._all(embeddings, lambda part: score(part, facts, device))

    def on_shards(
        self, embeddings: Tensor, rows: np.ndarray, facts: RowFacts, device: str | torch.device | None = None
    ) -> Scores:
        """Scores by name on every rank, see :meth:`RetrievalScoring.on_shards`."""
        score = super().on_shards
        return self._all(embeddings, lambda part: score(part, rows, facts, device))

    def _all(self, embeddings: Tensor | np.ndarray, score: Callable[[Any], Scores]) -> Scores:
        parts = self.parts(embeddings.shape[1])
        scores = score(embeddings)
        for name, columns in parts.items():
            scores |= {f'{name}/{key}': value for key, value in score(embeddings[:, columns]).items()}
        return scores
