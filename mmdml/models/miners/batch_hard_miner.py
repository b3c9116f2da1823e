"""Batch-hard mining."""

from torch import Tensor

from mmdml.registry import TASK_UTILS
from mmdml.structures import PairBatch, Triplets


def hardest_similarity(similarity: Tensor, negatives: Tensor) -> Tensor:
    """Similarity of every anchor to its nearest negative.

    Args:
        similarity: ``(A, X)``.
        negatives: ``(A, X)`` bool.

    Returns:
        ``(A,)``; -inf for anchors without a negative. Equally near negatives share the gradient.
    """
    masked = similarity.masked_fill(~negatives, float('-inf'))
    if masked.shape[1] == 0:
        return masked.new_full((len(masked),), float('-inf'))
    return masked.amax(1)


@TASK_UTILS.register_module()
class BatchHardMiner:
    """For every anchor, the farthest positive and the nearest negative.

    Hermans et al., arXiv 1703.07737, Eq. 5. Anchors without a positive or without a negative give no triplet; of equal
    similarities the first candidate is taken.

    Example:
        >>> miner = dict(type='BatchHardMiner')
    """

    def __call__(self, pairs: PairBatch) -> Triplets:
        """At most one triplet per anchor, index tensors ``(T,)``."""
        similarity = pairs.similarity
        usable = pairs.positive_mask.any(1) & pairs.negative_mask.any(1)
        anchor = usable.nonzero().squeeze(1)
        similarity = similarity[anchor]
        if len(anchor) == 0:
            return Triplets.none(anchor.device)
        positive = similarity.masked_fill(~pairs.positive_mask[anchor], float('inf')).argmin(1)
        negative = similarity.masked_fill(~pairs.negative_mask[anchor], float('-inf')).argmax(1)
        return Triplets(anchor, positive, negative)

    def __repr__(self) -> str:
        return 'BatchHardMiner()'
