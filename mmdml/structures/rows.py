"""Labeled embedding rows on their way from the neck to the loss."""

import dataclasses
import functools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass
class Rows:
    """Embeddings with a label and two identities for every row.

    From the neck to the sources of candidates the embeddings are raw; in a :class:`~mmdml.structures.PairBatch` they
    are unit vectors.

    Attributes:
        embeddings: ``(R, D)``.
        labels: ``(R,)`` int64 class ids.
        views: ``(R, V)`` int64 ids of the forward-passed rows that a row was made from, or ``(R,)`` for ``V = 1``.
            ``V`` is 1 for real rows and for copies of one row, 2 for rows made from two parents; -1 fills unused
            places.
        indices: ``(R,)`` int64 dataset indices, -1 where a row is no image of the dataset. Default: all -1.
        second_labels: ``(R,)`` int64 class ids of the second parent, for rows mixed from two classes. Default: none.
        shares: ``(R,)`` in [0, 1], how much a mixed row belongs to the class ``labels``; the rest belongs to
            ``second_labels``.

    Raises:
        ValueError: if the columns differ in length, or one of ``second_labels`` and ``shares`` is missing.
    """

    embeddings: Tensor
    labels: Tensor
    views: Tensor
    indices: Tensor | None = None
    second_labels: Tensor | None = None
    shares: Tensor | None = None

    def __post_init__(self) -> None:
        if self.embeddings.ndim != 2:
            raise ValueError(f'embeddings must be a matrix (R, D), got shape {tuple(self.embeddings.shape)}')
        if self.views.ndim == 1:
            self.views = self.views[:, None]
        if self.indices is None:
            self.indices = torch.full_like(self.labels, -1, dtype=torch.int64)
        if (self.second_labels is None) != (self.shares is None):
            raise ValueError('second_labels and shares describe a mixed row together: give both or neither')
        for name in ('labels', 'views', 'indices', 'second_labels', 'shares'):
            column = getattr(self, name)
            if column is not None and len(column) != len(self.embeddings):
                raise ValueError(f'{name} has {len(column)} entries for {len(self.embeddings)} embeddings')

    def __len__(self) -> int:
        return self.labels.shape[0]

    def __getitem__(self, rows: slice | Tensor) -> 'Rows':
        """Select rows by a slice, a mask or an index tensor."""
        columns = (getattr(self, field.name) for field in dataclasses.fields(self))
        return Rows(*(None if column is None else column[rows] for column in columns))

    def detach(self) -> 'Rows':
        """Return the same rows without a graph."""
        return self.with_embeddings(self.embeddings.detach())

    def with_embeddings(self, embeddings: Tensor) -> 'Rows':
        """Return the same rows with other embeddings ``(R, D')``, e.g. normalized ones."""
        return dataclasses.replace(self, embeddings=embeddings)

    @classmethod
    def of_batch(cls, embeddings: Tensor, labels: Tensor, indices: Tensor | None = None) -> 'Rows':
        """Rows of one forward pass: every row is a view of its own."""
        return cls(embeddings, labels, torch.arange(len(labels), device=labels.device), indices)

    @classmethod
    def cat(cls, parts: Sequence['Rows']) -> 'Rows':
        """Join rows in the given order.

        Views of unequal width are filled with -1. Embeddings of several types take the type that holds all of them:
        half-precision rows of a batch beside fp32 rows of a memory become fp32, fp32 beside fp64 becomes fp64. Beside
        mixed rows, others belong to their one class.
        """
        if len(parts) == 1:
            return parts[0]
        width = max(part.views.shape[1] for part in parts)
        dtype = functools.reduce(torch.promote_types, (part.embeddings.dtype for part in parts))
        return cls(
            torch.cat([part.embeddings.to(dtype) for part in parts]),
            torch.cat([part.labels for part in parts]),
            torch.cat([F.pad(part.views, (0, width - part.views.shape[1]), value=-1) for part in parts]),
            torch.cat([part.indices for part in parts]),
            *_mixtures(parts),
        )


def _mixtures(parts: Sequence[Rows]) -> tuple[Tensor | None, Tensor | None]:
    """Join ``second_labels`` and ``shares``; None if no row is mixed."""
    if all(part.shares is None for part in parts):
        return None, None
    second = [part.labels if part.shares is None else part.second_labels for part in parts]
    share = [
        part.labels.new_ones(len(part), dtype=torch.float32) if part.shares is None else part.shares for part in parts
    ]
    return torch.cat(second), torch.cat(share)
