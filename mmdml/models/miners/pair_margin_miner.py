"""Pairs on the wrong side of a margin."""

import torch

from mmdml.registry import TASK_UTILS
from mmdml.structures import PairBatch, Pairs
from mmdml.structures.checks import check_numbers

from .base import Miner


@TASK_UTILS.register_module()
class PairMarginMiner(Miner):
    r"""Positives that are farther than a margin, negatives that are nearer than another.

    The pairs for which the contrastive loss is not zero (Hadsell et al., CVPR 2006): :math:`d_{ij} > m_p` and
    :math:`d_{ik} < m_n`. Equals ``PairMarginMiner`` of pytorch-metric-learning.

    Args:
        pos_margin: :math:`m_p`, a distance, 0 or more.
        neg_margin: :math:`m_n`, a distance, 0 or more.

    Raises:
        ValueError: if a setting is no number; if a margin is negative.

    Config::

        miner=dict(type='PairMarginMiner', pos_margin=0.2, neg_margin=0.8)
    """

    def __init__(self, pos_margin: float = 0.2, neg_margin: float = 0.8) -> None:
        check_numbers(pos_margin=pos_margin, neg_margin=neg_margin)
        if pos_margin < 0 or neg_margin < 0:
            raise ValueError(f'margins are distances of 0 or more, got {pos_margin} and {neg_margin}')
        self.pos_margin = pos_margin
        self.neg_margin = neg_margin

    def __call__(self, pairs: PairBatch) -> Pairs:
        """Mined pairs, index tensors ``(P,)`` without weights."""
        distance = pairs.distance(eps=0)
        wrong = torch.where(pairs.positive_mask, distance > self.pos_margin, distance < self.neg_margin)
        return Pairs(*(wrong & (pairs.positive_mask | pairs.negative_mask)).nonzero(as_tuple=True))
