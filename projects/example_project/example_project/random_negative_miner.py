"""Random negatives."""

import torch

from mmdml.models.miners.base import Miner
from mmdml.registry import TASK_UTILS
from mmdml.structures import PairBatch, Triplets


@TASK_UTILS.register_module()
class RandomNegativeMiner(Miner):
    """Every positive pair with one random negative of its anchor: the least that a triplet loss can be given.

    Draws come from ``pairs.random``, which the head seeds by (run seed, iteration): a resumed run draws the same.

    Args:
        farthest: leave out negatives beyond this distance, in (0, 2].

    Raises:
        ValueError: if ``farthest`` is out of range.

    Config::

        miner=dict(type='RandomNegativeMiner', farthest=1.2)
    """

    def __init__(self, farthest: float = 2.0) -> None:
        if not 0 < farthest <= 2:
            raise ValueError(f'farthest must be a distance in (0, 2], got {farthest}')
        self.farthest = farthest

    def __call__(self, pairs: PairBatch) -> Triplets:
        """Index tensors ``(T,)``; positive pairs whose anchor has no such negative give no triplet."""
        near = (pairs.negative_mask & (pairs.distance(eps=0) <= self.farthest)).float()
        anchor, positive = (pairs.positive_mask & (near.sum(1, keepdim=True) > 0)).nonzero(as_tuple=True)
        if len(anchor) == 0:
            return Triplets.none(anchor.device)
        negative = torch.multinomial(near[anchor], 1, generator=pairs.random).squeeze(1)
        return Triplets(anchor, positive, negative)
