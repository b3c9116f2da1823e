"""The hardest share of the pairs of a batch."""

import math

import torch

from mmdml.registry import TASK_UTILS
from mmdml.structures import PairBatch, Pairs
from mmdml.structures.checks import check_numbers

from .base import Miner


@TASK_UTILS.register_module()
class HardFractionMiner(Miner):
    """The farthest of all positive pairs and the nearest of all negative pairs, a share of each.

    Yuan et al., ICCV 2017 (hard-aware deeply cascaded embedding), Sec. 3.2: a model of a cascade trains on the share
    of pairs that are hardest for it. Equals ``HDCMiner`` of pytorch-metric-learning. Pairs compete over the whole
    batch, unlike those of other miners, which compete within an anchor.

    Args:
        fraction: in (0, 1]; the number of pairs is rounded up.

    Raises:
        ValueError: if a setting is no number or out of range.

    Config::

        miner=dict(type='HardFractionMiner', fraction=0.5)
    """

    def __init__(self, fraction: float = 0.5) -> None:
        check_numbers(fraction=fraction)
        if not 0 < fraction <= 1:
            raise ValueError(f'fraction must be in (0, 1], got {fraction}')
        self.fraction = fraction

    def __call__(self, pairs: PairBatch) -> Pairs:
        """Positive pairs, then negative ones, index tensors ``(P,)`` without weights."""
        parts = []
        for mask, near in ((pairs.positive_mask, False), (pairs.negative_mask, True)):
            anchor, candidate = mask.nonzero(as_tuple=True)
            number = math.ceil(self.fraction * len(anchor))
            kept = pairs.similarity[anchor, candidate].topk(number, largest=near).indices
            parts.append((anchor[kept], candidate[kept]))
        return Pairs(*(torch.cat(columns) for columns in zip(*parts, strict=True)))
