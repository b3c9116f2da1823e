"""The contract between what makes embeddings and what scores them."""

import copy
from functools import cached_property, reduce
from typing import Any

import torch
from torch import Tensor

from .checks import check_targets, check_unit
from .mined import Mined, Triplets
from .rows import Rows, targets_of_mixtures


class Space:
    """How similar two embeddings are: the cosine of unit vectors. Subclasses define another geometry.

    Both functions are computed for all pairs, excluded ones and equal rows among them, so their gradients must be
    finite there, too.
    """

    def bind(self, neck: Any) -> None:
        """Check that the neck gives points of this space; called once, when the model is built.

        Raises:
            ValueError: if it does not.
        """

    def similarity(self, anchors: Tensor, candidates: Tensor) -> Tensor:
        """Similarities of all pairs, larger for nearer rows: ``(A, D)`` and ``(X, D)`` -> ``(A, X)``."""
        return anchors @ candidates.t()

    def distance(self, similarity: Tensor, eps: float = 1e-12) -> Tensor:
        r"""Distance that belongs to a similarity, :math:`\sqrt{[2 - 2s]_+ + \epsilon}`; any shape.

        With :math:`\epsilon > 0` the gradient at distance 0 is 0 instead of NaN.
        """
        return ((2 - 2 * similarity).relu() + eps).sqrt()


class PairBatch:
    """Anchors and candidates, unit vectors or points of another space, with labels and identities.

    A pair of anchor and candidate is *positive* if the labels agree, *negative* if they differ, and *neither* if the
    two rows share a view id: the anchor itself, its own synthetic copies, and rows it is a parent of. No row order is
    relied on.

    Args:
        anchors: A rows; their embeddings ``(A, D)`` are unit vectors.
        candidates: X rows of the same width; the anchors are usually among them.
        exclude_same_image: also treat pairs with one dataset index as neither, e.g. old memory rows of an image.
        random: what miners draw from. Default: torch's global generator.
        space: how similarity and distance are computed. Default: cosine.
        targets: ``(A, X)`` in [0, 1], how much a pair is a positive, in place of the labels: soft, multi-label or
            hierarchical positives. Pairs are positive above 0 and negative at 0. Default: those of the labels, and
            where candidates are mixed from two classes, their shares of the anchor's class.

    Raises:
        ValueError: if the widths differ, or ``targets`` has another shape or values outside [0, 1].
    """

    def __init__(
        self,
        anchors: Rows,
        candidates: Rows,
        exclude_same_image: bool = False,
        random: torch.Generator | None = None,
        space: Space | None = None,
        targets: Tensor | None = None,
    ) -> None:
        widths = anchors.width, candidates.width
        if widths[0] != widths[1]:
            raise ValueError(f'anchors and candidates must have one width, got {widths[0]} and {widths[1]} columns')
        self.anchors = anchors
        self.candidates = candidates
        self.exclude_same_image = exclude_same_image
        self.random = random
        self.space = Space() if space is None else space
        self.dtype = torch.promote_types(anchors.dtype, candidates.dtype)
        self.dtype = torch.promote_types(self.dtype, torch.float32)
        #: Whether targets were given; else they are None, or follow from labels and shares.
        self.has_own_targets = targets is not None
        self.targets = targets
        if targets is None and candidates.shares is not None:
            self.targets = targets_of_mixtures(anchors, candidates)
        elif targets is not None:
            check_targets(targets, (len(anchors), len(candidates)))

    @classmethod
    def from_embeddings(cls, unit: Tensor, labels: Tensor, ids: Tensor | None = None) -> 'PairBatch':
        """Make every row an anchor and a candidate.

        Args:
            unit: ``(B, D)`` unit vectors, or rows of zeros.
            labels: ``(B,)`` class ids.
            ids: ``(B,)`` or ``(B, V)`` view ids; rows that share one form no pair. Default: ``arange(B)``.

        Raises:
            ValueError: if a row has another length.
        """
        check_unit(unit)
        rows = Rows.of_batch(unit, labels) if ids is None else Rows(unit, labels, ids)
        return cls(rows, rows)

    @cached_property
    def similarity(self) -> Tensor:
        """``(A, X)`` similarities, cosines unless there is another space; in fp32 or better, also under autocast."""
        # By parts: one without a graph, like the rows of a memory, costs no product in the backward pass.
        anchors = self.anchors.embeddings.to(self.dtype)
        with torch.autocast(anchors.device.type, enabled=False):
            blocks = [self.space.similarity(anchors, part.to(self.dtype)) for part in self.candidates.parts]
            return blocks[0] if len(blocks) == 1 else torch.cat(blocks, 1)

    def distance(self, eps: float = 1e-12) -> Tensor:
        """Compute ``(A, X)`` distances, see :meth:`Space.distance`."""
        return self.space.distance(self.similarity, eps)

    @cached_property
    def excluded_mask(self) -> Tensor:
        """``(A, X)`` bool: pairs that are neither positive nor negative."""
        mask = _share_an_id(self.anchors.views, self.candidates.views)
        if self.exclude_same_image:
            mask = mask | _share_an_id(self.anchors.indices[:, None], self.candidates.indices[:, None])
        return mask

    @cached_property
    def _is_positive(self) -> Tensor:
        if self.targets is not None:
            return self.targets > 0
        return self.anchors.labels[:, None] == self.candidates.labels[None, :]

    @cached_property
    def positive_mask(self) -> Tensor:
        """``(A, X)`` bool: same class (or target > 0), no shared identity."""
        return self._is_positive & ~self.excluded_mask

    @cached_property
    def negative_mask(self) -> Tensor:
        """``(A, X)`` bool: another class (or target 0), no shared identity."""
        return ~(self._is_positive | self.excluded_mask)

    def weights(self, mined: Mined | None = None) -> tuple[Tensor, Tensor]:
        """Weigh the positive and the negative pairs: two dense ``(A, X)`` matrices.

        A pair of target ``t`` that counts ``w`` has ``w t`` in the first matrix and ``w (1 - t)`` in the second; labels
        make ``t`` 1 or 0. Without mined tuples ``w`` is 1. A mined pair counts as often as it was mined, times its
        weight; a triplet counts once for its positive and once for its negative pair. Pairs that are neither positive
        nor negative have weight 0 in both, also if they were mined.
        """
        positive, negative = self._shares()
        if mined is None:
            return positive.to(self.dtype), negative.to(self.dtype)
        dense = self._dense(mined)
        return (dense * positive).to(self.dtype), (dense * negative).to(self.dtype)

    def _shares(self) -> tuple[Tensor, Tensor]:
        """Return t and 1 - t of every pair, ``(A, X)``, as masks where they come from labels."""
        if self.targets is None:
            return self.positive_mask, self.negative_mask
        target, kept = self.targets.to(self.dtype), ~self.excluded_mask
        return target * kept, (1 - target) * kept

    def _dense(self, mined: Mined) -> Tensor:
        """Mined tuples as ``(A, X)`` weights, a mask as it is."""
        if isinstance(mined, Tensor):
            return mined if mined.dtype == torch.bool else mined.to(self.dtype)
        if isinstance(mined, Triplets):
            anchor, candidate, weight = mined.anchor.repeat(2), torch.cat([mined.positive, mined.negative]), None
        else:
            anchor, candidate, weight = mined
        weight = anchor.new_ones(len(anchor), dtype=self.dtype) if weight is None else weight.to(self.dtype)
        dense = weight.new_zeros(len(self.anchors), len(self.candidates))
        return dense.index_put_((anchor, candidate), weight, accumulate=True)

    def with_candidates(self, candidates: Rows) -> 'PairBatch':
        """Return the same pairs with other embeddings of the candidates; similarities are computed anew."""
        twin = copy.copy(self)
        twin.candidates = candidates
        twin.__dict__.pop('similarity', None)
        return twin

    def detach(self) -> 'PairBatch':
        """Return the same pairs without a graph, for miners; similarity and masks are shared, not computed again."""
        # Filled here, so that they are in both copies.
        similarity, _, _ = self.similarity, self.positive_mask, self.negative_mask
        twin = copy.copy(self)
        twin.anchors, twin.candidates = self.anchors.detach(), self.candidates.detach()
        twin.targets = None if self.targets is None else self.targets.detach()
        twin.similarity = similarity.detach()
        return twin


def _share_an_id(left: Tensor, right: Tensor) -> Tensor:
    """Compare ``(A, V)`` and ``(X, W)`` ids -> ``(A, X)`` bool: any in common, -1 never counts."""
    left = left.masked_fill(left < 0, -2)
    masks = (own[:, None] == other[None, :] for own in left.unbind(1) for other in right.unbind(1))
    return reduce(torch.logical_or, masks)
