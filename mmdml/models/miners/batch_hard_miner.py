"""Batch-hard mining."""

from mmdml.registry import TASK_UTILS
from mmdml.structures import PairBatch, Triplets

from .base import Miner


@TASK_UTILS.register_module()
class BatchHardMiner(Miner):
    """For every anchor, the farthest positive and the nearest negative.

    Hermans et al., arXiv 1703.07737, Eq. 5. Anchors without a positive or without a negative give no triplet; of equal
    similarities the first candidate is taken.

    Config::

        miner=dict(type='BatchHardMiner')
    """

    def __call__(self, pairs: PairBatch) -> Triplets:
        """At most one triplet per anchor, index tensors ``(T,)``."""
        usable = pairs.positive_mask.any(1) & pairs.negative_mask.any(1)
        anchor = usable.nonzero().squeeze(1)
        if len(anchor) == 0:
            return Triplets.none(anchor.device)
        similarity = pairs.similarity[anchor]
        positive = similarity.masked_fill(~pairs.positive_mask[anchor], float('inf')).argmin(1)
        negative = similarity.masked_fill(~pairs.negative_mask[anchor], float('-inf')).argmax(1)
        return Triplets(anchor, positive, negative)
