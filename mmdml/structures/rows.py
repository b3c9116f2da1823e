"""Labeled embedding rows on their way from the neck to the loss."""

import functools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


def unit_length(rows: Tensor) -> Tensor:
    """``(..., D)`` -> rows of length 1, as ``F.normalize`` has them; a row of zeros stays zero, and gets no gradient.

    The zeros have no direction, but ``F.normalize`` passes 1e12 times the gradient on: one picture without features
    would be the whole step.
    """
    return rows / divisor_of(rows.norm(dim=-1, keepdim=True))


def divisor_of(length: Tensor) -> Tensor:
    """Lengths to divide by: at least 1e-12, and infinite where there is none."""
    return length.clamp_min(1e-12).masked_fill(length == 0, float('inf'))


class Rows:
    """Embeddings with a label and two identities for every row.

    From the neck to the sources of candidates the embeddings are raw; in a :class:`~mmdml.structures.PairBatch` they
    are unit vectors.

    Args:
        embeddings: ``(R, D)``, or parts ``(n, D)`` of one type that lie one below the other.
        labels: ``(R,)`` class ids, integers of any type; kept as int64.
        views: ``(R, V)`` int64 ids of the forward-passed rows that a row was made from, or ``(R,)`` for ``V = 1``.
            ``V`` is 1 for real rows and for copies of one row, 2 for rows made from two parents; -1 fills unused
            places.
        indices: ``(R,)`` int64 dataset indices, -1 where a row is no image of the dataset. Default: all -1.
        second_labels: ``(R,)`` int64 class ids of the second parent, for rows mixed from two classes. Default: none.
        shares: ``(R,)`` in [0, 1], how much a mixed row belongs to the class ``labels``; the rest belongs to
            ``second_labels``.
        num_parents: ``(R,)`` int64, how many of the first views are parents; the others only form no pair with the row.
            Default: all views are.

    Attributes:
        parts: the parts of the embeddings, each with or without a graph; what works row by row can take one after the
            other, and need not join them.

    Raises:
        TypeError: if labels are no tensor of integers.
        ValueError: if labels are no vector, the columns differ in length, the parts in width, or one of
            ``second_labels`` and ``shares`` is missing.
    """

    def __init__(
        self,
        embeddings: Tensor | Sequence[Tensor],
        labels: Tensor,
        views: Tensor,
        indices: Tensor | None = None,
        second_labels: Tensor | None = None,
        shares: Tensor | None = None,
        num_parents: Tensor | None = None,
    ) -> None:
        self.parts = (embeddings,) if isinstance(embeddings, Tensor) else tuple(embeddings)
        for part in self.parts:
            if part.ndim != 2:
                raise ValueError(f'embeddings must be a matrix (R, D), got shape {tuple(part.shape)}')
            if part.shape[1] != self.width:
                raise ValueError(f'parts of rows must have one width, got {self.width} and {part.shape[1]} columns')
        if len(self.parts) == 1:
            self.embeddings = self.parts[0]
        self.labels = _class_ids(labels)
        self.views = views[:, None] if views.ndim == 1 else views
        self.indices = torch.full_like(self.labels, -1) if indices is None else indices
        if (second_labels is None) != (shares is None):
            raise ValueError('second_labels and shares describe a mixed row together: give both or neither')
        self.second_labels = second_labels
        self.shares = shares
        self.num_parents = num_parents
        number = sum(map(len, self.parts))
        for name, column in self._columns().items():
            if column is not None and len(column) != number:
                raise ValueError(f'{name} has {len(column)} entries for {number} embeddings')

    def _columns(self) -> dict[str, Tensor | None]:
        """Everything but the embeddings."""
        names = ('labels', 'views', 'indices', 'second_labels', 'shares', 'num_parents')
        return {name: getattr(self, name) for name in names}

    @functools.cached_property
    def embeddings(self) -> Tensor:
        """``(R, D)``; several parts are joined when this is first read."""
        return torch.cat(self.parts)

    @property
    def width(self) -> int:
        """Number D of columns of the embeddings."""
        return self.parts[0].shape[1]

    @property
    def dtype(self) -> torch.dtype:
        """Type of the embeddings."""
        return self.parts[0].dtype

    def __len__(self) -> int:
        return self.labels.shape[0]

    def __getitem__(self, rows: slice | Tensor) -> 'Rows':
        """Select rows by a slice, a mask or an index tensor."""
        columns = {name: None if column is None else column[rows] for name, column in self._columns().items()}
        return Rows(self.embeddings[rows], **columns)

    def detach(self) -> 'Rows':
        """Return the same rows without a graph."""
        return self.by_parts(Tensor.detach)

    def with_embeddings(self, embeddings: Tensor | Sequence[Tensor]) -> 'Rows':
        """Return the same rows with other embeddings ``(R, D')``, e.g. normalized ones."""
        return Rows(embeddings, **self._columns())

    def by_parts(self, function: Callable[[Tensor], Tensor]) -> 'Rows':
        """Return the same rows with other embeddings: a function's ``(n, D')`` of each part ``(n, D)``."""
        return self.with_embeddings([function(part) for part in self.parts])

    @classmethod
    def of_batch(cls, embeddings: Tensor, labels: Tensor, indices: Tensor | None = None) -> 'Rows':
        """Rows of one forward pass: every row is a view of its own.

        Two such batches number their views alike, so that row i of one would form no pair with row i of the other. In a
        :class:`~mmdml.structures.PairBatch` of a batch and other images, give those views of -1::

            references = Rows(unit, labels, views=torch.full_like(labels, -1))
            pairs = PairBatch(Rows.of_batch(queries, query_labels), references)
        """
        return cls(embeddings, labels, torch.arange(len(embeddings), device=embeddings.device), indices)

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
        dtype = functools.reduce(torch.promote_types, (part.dtype for part in parts))
        return cls(
            [embeddings.to(dtype) for part in parts for embeddings in part.parts],
            torch.cat([part.labels for part in parts]),
            torch.cat([F.pad(part.views, (0, width - part.views.shape[1]), value=-1) for part in parts]),
            torch.cat([part.indices for part in parts]),
            *_mixtures(parts),
            num_parents=_numbers_of_parents(parts, width),
        )


def targets_of_mixtures(anchors: Rows, candidates: Rows) -> Tensor:
    """Return how much each candidate belongs to the class of each anchor, ``(A, X)``."""
    first, second = (anchors.labels[:, None] == labels for labels in (candidates.labels, candidates.second_labels))
    return first * candidates.shares + second * (1 - candidates.shares)


def _class_ids(labels: Tensor) -> Tensor:
    """Labels as int64; another shape would spread over the pairs without an error."""
    if not isinstance(labels, Tensor):
        raise TypeError(f'labels must be a tensor (R,) of integers, got {type(labels).__name__}')
    if labels.is_floating_point() or labels.is_complex():
        raise TypeError(f'labels must be integers, got {labels.dtype}')
    if labels.ndim != 1:
        raise ValueError(f'labels must be a vector (R,), got shape {tuple(labels.shape)}')
    return labels.long()


def _mixtures(parts: Sequence[Rows]) -> tuple[Tensor | None, Tensor | None]:
    """Join ``second_labels`` and ``shares``; None if no row is mixed."""
    if all(part.shares is None for part in parts):
        return None, None
    second = [part.labels if part.shares is None else part.second_labels for part in parts]
    share = [
        part.labels.new_ones(len(part), dtype=torch.float32) if part.shares is None else part.shares for part in parts
    ]
    return torch.cat(second), torch.cat(share)


def _numbers_of_parents(parts: Sequence[Rows], width: int) -> Tensor | None:
    """Join ``num_parents``; None if all views of all rows are parents."""
    if all(part.num_parents is None for part in parts):
        return None
    return torch.cat(
        [torch.full_like(part.labels, width) if part.num_parents is None else part.num_parents for part in parts]
    )
