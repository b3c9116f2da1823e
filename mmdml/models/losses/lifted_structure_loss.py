"""Lifted structure loss."""

import torch
from torch import Tensor

from mmdml.registry import MODELS
from mmdml.structures import Mined, PairBatch
from mmdml.structures.checks import check_numbers

from .base import PairLoss
from .pair_sums import log_sum_exp, weighted_mean


@MODELS.register_module()
class LiftedStructureLoss(PairLoss):
    r"""Lifted structure loss: a positive pair against all negatives of both its ends.

    Oh Song et al., CVPR 2016: over the positive pairs (i, j), each in both directions,

    .. math:: L = \frac{1}{2} \operatorname{mean}_{ij} \Big[ d_{ij} + \ln \Big( \sum_{k \in N_i} e^{m - d_{ik}}
        + \sum_{k : j \in N_k} e^{m - d_{kj}} \Big) \Big]_+^2

    The negatives of the candidate j are the anchors k of another class; where anchors and candidates are the same rows
    these are all its negatives, as in the paper, and the value equals that of ``LiftedStructureLoss`` of
    pytorch-metric-learning. The paper's distances are those of raw embeddings, here rows have length 1. Weights of
    mined pairs, and soft targets t and 1 - t, multiply the terms of positives and the exponentials of negatives.

    Args:
        margin: m, a distance. 1 is that of pytorch-metric-learning.

    Raises:
        ValueError: if a setting is no number.

    Config::

        loss=dict(type='LiftedStructureLoss', margin=1.0)
    """

    soft_targets = True

    def __init__(self, margin: float = 1.0) -> None:
        super().__init__()
        check_numbers(margin=margin)
        self.margin = margin

    def forward(self, pairs: PairBatch, mined: Mined | None = None) -> Tensor:
        """Scalar loss; mined tuples, if given, replace the set of all pairs."""
        positive, negative = pairs.weights(mined)
        distance = pairs.distance()
        logits = self.margin - distance
        # A finite floor: the sum of two empty sums has no gradient.
        floor = -1e4
        of_anchor = log_sum_exp(logits, negative, 1).clamp_min(floor)[:, None]
        of_candidate = log_sum_exp(logits, negative, 0).clamp_min(floor)[None, :]
        return weighted_mean((distance + torch.logaddexp(of_anchor, of_candidate)).relu().square(), positive) / 2
