"""Sigmoid loss."""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from mmdml.registry import MODELS
from mmdml.structures import Mined, PairBatch
from mmdml.structures.checks import check_numbers, check_positive

from .base import PairLoss
from .reductions import get_reduction


@MODELS.register_module()
class SigmoidLoss(PairLoss):
    r"""Sigmoid loss of SigLIP: every pair is a decision of its own, with a learned temperature and bias.

    Zhai et al., ICCV 2023 (SigLIP), with classes in place of texts:

    .. math:: L = \frac{1}{A} \sum_i \Big( \sum_{j \in P_i} \ln(1 + e^{-(t s_{ij} + b)})
        + \sum_{k \in N_i} \ln(1 + e^{t s_{ik} + b}) \Big), \quad t = e^{t'}

    :math:`t'` and b are parameters and should not decay:
    ``paramwise_cfg=dict(custom_keys={'.log_scale': dict(decay_mult=0), '.logit_bias': dict(decay_mult=0)})``. Weights
    of mined pairs multiply their terms; a pair of soft target t brings t times the one and 1 - t times the other term.

    Args:
        scale: t at the start, above 0.
        bias: b at the start. The default makes the many negatives easy from the beginning.
        reduction: 'paper', the sum over pairs divided by the number of anchors; it grows with the number of
            candidates. 'mean', the mean over all pairs; it does not.

    Raises:
        ValueError: if a setting is no number; if ``scale`` is not positive or ``reduction`` is unknown.

    Config::

        loss=dict(type='SigmoidLoss', scale=10.0, bias=-10.0)
    """

    soft_targets = True

    def __init__(self, scale: float = 10.0, bias: float = -10.0, reduction: str = 'paper') -> None:
        super().__init__()
        check_numbers(bias=bias)
        check_positive(scale=scale)
        self.scale = scale
        self.bias = bias
        self.reduction = reduction
        self._reduce = get_reduction(reduction)
        self.log_scale = nn.Parameter(torch.tensor(math.log(scale)))
        self.logit_bias = nn.Parameter(torch.tensor(float(bias)))

    def forward(self, pairs: PairBatch, mined: Mined | None = None) -> Tensor:
        """Scalar loss; mined tuples, if given, replace the set of all pairs."""
        positive, negative = pairs.weights(mined)
        logits = self.log_scale.exp() * pairs.similarity + self.logit_bias
        # ln(1 + exp(-x)) = ln(1 + exp(x)) - x, so one of the two is enough.
        terms = (positive + negative) * softplus(logits) - positive * logits
        return self._reduce(terms, positive + negative, len(pairs.anchors))
