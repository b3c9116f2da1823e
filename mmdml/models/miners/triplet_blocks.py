"""Triplets that fulfill a condition, found in blocks of positive pairs instead of in a cube of all triplets."""

from collections.abc import Callable

import torch
from torch import Tensor

from mmdml.structures import PairBatch, Triplets

#: Entries of a (positive pairs, candidates) mask that is made at a time.
BLOCK_ENTRIES = 2**22


def triplets_where(pairs: PairBatch, condition: Callable[[Tensor, Tensor], Tensor]) -> Triplets:
    """Collect the triplets for which a condition holds.

    Args:
        pairs: the batch.
        condition: from ``(P,)`` anchors and ``(P,)`` positives to ``(P, X)`` bool over the candidates as negatives.
    """
    anchors, positives = pairs.positive_mask.nonzero(as_tuple=True)
    rows = max(1, BLOCK_ENTRIES // max(1, len(pairs.candidates)))
    parts = [Triplets.none(anchors.device)]
    for anchor, positive in zip(anchors.split(rows), positives.split(rows), strict=True):
        row, negative = (condition(anchor, positive) & pairs.negative_mask[anchor]).nonzero(as_tuple=True)
        parts.append(Triplets(anchor[row], positive[row], negative))
    return Triplets(*(torch.cat(columns) for columns in zip(*parts, strict=True)))
