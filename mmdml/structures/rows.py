"""Labelled embedding rows on their way from the neck to the loss."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class Rows:
    """Raw embeddings with a label and two identities for every row.

    Attributes:
        embeddings: ``(R, D)`` raw output of the neck, not normalised.
        labels: ``(R,)`` int64 class ids.
        views: ``(R, V)`` int64 ids of the forward-passed rows that a row was made from. ``V`` is 1 for real rows and
            for copies of one row, 2 for rows made from two parents; -1 fills unused places.
        indices: ``(R,)`` int64 data-set indices, -1 where a row is no image of the data set.
    """

    embeddings: Tensor
    labels: Tensor
    views: Tensor
    indices: Tensor

    def __len__(self) -> int:
        return self.labels.shape[0]

    @classmethod
    def of_batch(cls, embeddings: Tensor, labels: Tensor, indices: Tensor | None = None) -> 'Rows':
        """Rows of one forward pass: every row is a view of its own."""
        rows = torch.arange(len(labels), device=labels.device)
        if indices is None:
            indices = torch.full_like(rows, -1)
        return cls(embeddings, labels, rows[:, None], indices)

    @classmethod
    def cat(cls, parts: Sequence['Rows']) -> 'Rows':
        """Join rows in the given order; views of unequal width are filled with -1."""
        if len(parts) == 1:
            return parts[0]
        width = max(part.views.shape[1] for part in parts)
        views = [torch.nn.functional.pad(part.views, (0, width - part.views.shape[1]), value=-1) for part in parts]
        # Normalisation happens after this, in fp32; a half-precision batch may meet an fp32 memory here.
        dtypes = {part.embeddings.dtype for part in parts}
        embeddings = [part.embeddings if len(dtypes) == 1 else part.embeddings.float() for part in parts]
        return cls(
            torch.cat(embeddings),
            torch.cat([part.labels for part in parts]),
            torch.cat(views),
            torch.cat([part.indices for part in parts]),
        )
