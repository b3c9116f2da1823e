"""The one contract between what makes embeddings and what scores them."""

from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor


class Pairs(NamedTuple):
    """Mined pairs: index tensors of equal length; repeats are allowed and add up.

    Attributes:
        anchor: ``(P,)`` rows of ``PairBatch.anchors``.
        candidate: ``(P,)`` rows of ``PairBatch.candidates``.
        weight: ``(P,)`` non-negative weights, or None for ones.
    """

    anchor: Tensor
    candidate: Tensor
    weight: Tensor | None = None


class Triplets(NamedTuple):
    """Mined triplets: index tensors of equal length; repeats are allowed and add up.

    Attributes:
        anchor: ``(T,)`` rows of ``PairBatch.anchors``.
        positive: ``(T,)`` rows of ``PairBatch.candidates``, same class as the anchor.
        negative: ``(T,)`` rows of ``PairBatch.candidates``, another class.
    """

    anchor: Tensor
    positive: Tensor
    negative: Tensor


Mined = Pairs | Triplets


class PairBatch:
    """Unit anchors and candidates with labels and identities.

    A pair of anchor and candidate is *positive* if the labels agree, *negative* if they differ, and *neither* if the
    two rows share a view id: the anchor itself, its own synthetic copies, and rows it is a parent of. No row order is
    relied on.

    Args:
        anchors: ``(A, D)`` unit vectors.
        candidates: ``(X, D)`` unit vectors; the anchors are usually among them.
        anchor_labels: ``(A,)`` class ids.
        candidate_labels: ``(X,)`` class ids.
        anchor_views: ``(A,)`` or ``(A, V)`` view ids, -1 for none.
        candidate_views: ``(X,)`` or ``(X, V)`` view ids, -1 for none.
        anchor_indices: ``(A,)`` data-set indices, -1 for none. Default: all -1.
        candidate_indices: ``(X,)`` data-set indices, -1 for none. Default: all -1.
        exclude_same_image: also treat pairs with one data-set index as neither, e.g. old memory rows of an image.
        random: what miners draw from. Default: torch's global generator.

    Raises:
        ValueError: if lengths do not fit together.
    """

    def __init__(
        self,
        anchors: Tensor,
        candidates: Tensor,
        anchor_labels: Tensor,
        candidate_labels: Tensor,
        anchor_views: Tensor,
        candidate_views: Tensor,
        anchor_indices: Tensor | None = None,
        candidate_indices: Tensor | None = None,
        exclude_same_image: bool = False,
        random: torch.Generator | None = None,
    ) -> None:
        if anchors.ndim != 2 or candidates.ndim != 2 or anchors.shape[1] != candidates.shape[1]:
            raise ValueError(
                'anchors (A, D) and candidates (X, D) must be matrices of one width, '
                f'got {tuple(anchors.shape)} and {tuple(candidates.shape)}'
            )
        if anchor_indices is None:
            anchor_indices = torch.full_like(anchor_labels, -1)
        if candidate_indices is None:
            candidate_indices = torch.full_like(candidate_labels, -1)
        sides = (
            ('anchor', len(anchors), anchor_labels, anchor_views, anchor_indices),
            ('candidate', len(candidates), candidate_labels, candidate_views, candidate_indices),
        )
        for side, rows, *columns in sides:
            for name, column in zip(('labels', 'views', 'indices'), columns, strict=True):
                if len(column) != rows:
                    raise ValueError(f'{side}_{name} has {len(column)} entries for {rows} {side}s')
        self.anchors = anchors
        self.candidates = candidates
        self.anchor_labels = anchor_labels
        self.candidate_labels = candidate_labels
        self.anchor_views = anchor_views if anchor_views.ndim == 2 else anchor_views[:, None]
        self.candidate_views = candidate_views if candidate_views.ndim == 2 else candidate_views[:, None]
        self.anchor_indices = anchor_indices
        self.candidate_indices = candidate_indices
        self.exclude_same_image = exclude_same_image
        self.random = random

    @classmethod
    def from_embeddings(cls, unit: Tensor, labels: Tensor, ids: Tensor | None = None) -> 'PairBatch':
        """Every row is an anchor and a candidate.

        Args:
            unit: ``(B, D)`` unit vectors.
            labels: ``(B,)`` class ids.
            ids: ``(B,)`` or ``(B, V)`` view ids; rows that share one form no pair. Default: ``arange(B)``.
        """
        if ids is None:
            ids = torch.arange(len(labels), device=labels.device)
        return cls(unit, unit, labels, labels, ids, ids)

    @cached_property
    def similarity(self) -> Tensor:
        """``(A, X)`` cosine similarities, in fp32 or better whatever autocast says."""
        with torch.autocast(self.anchors.device.type, enabled=False):
            anchors, candidates = self.anchors, self.candidates
            if anchors.dtype not in (torch.float32, torch.float64):
                anchors, candidates = anchors.float(), candidates.float()
            return anchors @ candidates.t()

    @cached_property
    def excluded_mask(self) -> Tensor:
        """``(A, X)`` bool: pairs that are neither positive nor negative."""
        mask = _share_an_id(self.anchor_views, self.candidate_views)
        if self.exclude_same_image:
            mask = mask | _share_an_id(self.anchor_indices[:, None], self.candidate_indices[:, None])
        return mask

    @cached_property
    def _same_label(self) -> Tensor:
        return self.anchor_labels[:, None] == self.candidate_labels[None, :]

    @cached_property
    def positive_mask(self) -> Tensor:
        """``(A, X)`` bool: same class, no shared identity."""
        return self._same_label & ~self.excluded_mask

    @cached_property
    def negative_mask(self) -> Tensor:
        """``(A, X)`` bool: another class, no shared identity."""
        return ~(self._same_label | self.excluded_mask)

    def pair_weights(self, mined: Mined) -> tuple[Tensor, Tensor]:
        """Mined tuples as two dense weight matrices.

        A pair counts as often as it was mined, times its weight; a triplet counts once for its positive and once for
        its negative pair. Mined pairs that are neither positive nor negative count nothing.

        Returns:
            ``(A, X)`` weights of the positive and of the negative pairs.
        """
        if isinstance(mined, Triplets):
            anchor = torch.cat([mined.anchor, mined.anchor])
            candidate = torch.cat([mined.positive, mined.negative])
            weight = None
        else:
            anchor, candidate, weight = mined
        if weight is None:
            weight = torch.ones(len(anchor), device=anchor.device)
        dense = torch.zeros(len(self.anchors), len(self.candidates), dtype=weight.dtype, device=weight.device)
        dense.index_put_((anchor, candidate), weight, accumulate=True)
        return dense * self.positive_mask, dense * self.negative_mask


def _share_an_id(left: Tensor, right: Tensor) -> Tensor:
    """``(A, V)`` and ``(X, W)`` ids -> ``(A, X)`` bool: any id in common, -1 never counts."""
    mask = torch.zeros(len(left), len(right), dtype=torch.bool, device=left.device)
    for own in left.unbind(1):
        for other in right.unbind(1):
            mask |= (own[:, None] == other[None, :]) & (own[:, None] >= 0)
    return mask
