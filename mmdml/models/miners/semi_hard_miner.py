"""Semi-hard mining."""

import torch

from mmdml.registry import TASK_UTILS
from mmdml.structures import PairBatch, Triplets

from .base import Miner
from .triplet_blocks import BLOCK_ENTRIES


@TASK_UTILS.register_module()
class SemiHardMiner(Miner):
    """For every positive pair, the nearest negative that is farther than the positive; else the farthest negative.

    Schroff et al., CVPR 2015, Sec. 3.2, in the form of Sanakoyeu et al., TPAMI 2021: the choice has no upper limit,
    and a positive pair whose negatives are all nearer takes the farthest of them. With
    ``TripletLoss(reduction='mean')`` this is the triplet loss of the TPAMI release. Anchors without a negative give no
    triplet.

    Config::

        miner=dict(type='SemiHardMiner')
    """

    def __call__(self, pairs: PairBatch) -> Triplets:
        """One triplet per positive pair, index tensors ``(T,)``."""
        # Less similar is farther, so the order needs no square root.
        similarity, negatives = pairs.similarity, pairs.negative_mask
        anchors, positives = (pairs.positive_mask & negatives.any(1, keepdim=True)).nonzero(as_tuple=True)
        if len(anchors) == 0:
            return Triplets.none(anchors.device)
        candidates = similarity.masked_fill(~negatives, float('-inf'))
        farthest = similarity.masked_fill(~negatives, float('inf')).argmin(1)
        rows = max(1, BLOCK_ENTRIES // similarity.shape[1])
        found = []
        for anchor, positive in zip(anchors.split(rows), positives.split(rows), strict=True):
            among = candidates[anchor]
            nearer = among >= similarity[anchor, positive, None]
            nearest, column = among.masked_fill_(nearer, float('-inf')).max(1)
            found.append(torch.where(nearest > float('-inf'), column, farthest[anchor]))
        return Triplets(anchors, positives, torch.cat(found))
