"""Semi-hard mining."""

import torch

from mmdml.registry import TASK_UTILS
from mmdml.structures import PairBatch, Triplets

from .base import Miner


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
        farness = -pairs.similarity
        anchor, positive = (pairs.positive_mask & pairs.negative_mask.any(1, keepdim=True)).nonzero(as_tuple=True)
        if len(anchor) == 0:
            return Triplets.none(anchor.device)
        # Negatives from near to far, everything else behind them. The search finds the first that is strictly farther.
        ordered, columns = farness.masked_fill(~pairs.negative_mask, float('inf')).sort(dim=1, stable=True)
        place = torch.searchsorted(ordered, farness, right=True)
        farthest = pairs.negative_mask.sum(1, keepdim=True) - 1
        place = torch.minimum(place, farthest.clamp_min(0))
        return Triplets(anchor, positive, columns.gather(1, place)[anchor, positive])
