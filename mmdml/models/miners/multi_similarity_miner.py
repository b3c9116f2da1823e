"""The pair mining of the multi-similarity loss."""

import torch
from torch import Tensor

from mmdml.registry import TASK_UTILS
from mmdml.structures import PairBatch, Pairs

#: Positives at least this similar are near-duplicates and dropped before anything else.
NEAR_DUPLICATE = 1 - 1e-5


def multi_similarity_masks(
    similarity: Tensor, positives: Tensor, negatives: Tensor, epsilon: float
) -> tuple[Tensor, Tensor]:
    r"""Pairs that the multi-similarity loss uses.

    Wang et al., CVPR 2019; IAA (Fu et al., T-MM 2022), Eq. 5 and 6. With :math:`P'_i` the positives of anchor i
    below 1 - 1e-5:

    .. math::
        N^*_i = \{ k \in N_i : s_{ik} + \epsilon > \min_{j \in P'_i} s_{ij} \}, \quad
        P^*_i = \{ j \in P'_i : s_{ij} - \epsilon < \max_{k \in N_i} s_{ik} \}

    Anchors for which one of the four sets is empty have no pairs at all.

    Args:
        similarity: ``(A, X)`` in fp32 or better (the bound 1 - 1e-5 is 1 in half precision).
        positives: ``(A, X)`` bool.
        negatives: ``(A, X)`` bool.
        epsilon: margin.

    Returns:
        ``(A, X)`` bool masks of the mined positives and negatives.
    """
    if similarity.shape[1] == 0:
        return positives, negatives
    positives = positives & (similarity < NEAR_DUPLICATE)
    farthest = similarity.masked_fill(~positives, float('inf')).amin(1, keepdim=True)
    nearest = similarity.masked_fill(~negatives, float('-inf')).amax(1, keepdim=True)
    # The extremes are members of their sets, so they tell whether a mined set is empty; an empty P' or N does too.
    kept = (farthest - epsilon < nearest) & (nearest + epsilon > farthest)
    mined_positives = positives & (similarity - epsilon < nearest) & kept
    mined_negatives = negatives & (similarity + epsilon > farthest) & kept
    return mined_positives, mined_negatives


@TASK_UTILS.register_module()
class MultiSimilarityMiner:
    """The pair mining of the multi-similarity loss, for use with any loss.

    See :func:`multi_similarity_masks` for the definition.

    Args:
        epsilon: margin.

    Example:
        >>> miner = dict(type='MultiSimilarityMiner', epsilon=0.1)
    """

    def __init__(self, epsilon: float = 0.1) -> None:
        self.epsilon = epsilon

    def __call__(self, pairs: PairBatch) -> Pairs:
        """Mined positive and negative pairs, index tensors ``(P,)`` without weights."""
        masks = multi_similarity_masks(pairs.similarity, pairs.positive_mask, pairs.negative_mask, self.epsilon)
        return Pairs(*torch.logical_or(*masks).nonzero(as_tuple=True))

    def __repr__(self) -> str:
        return f'MultiSimilarityMiner(epsilon={self.epsilon})'
