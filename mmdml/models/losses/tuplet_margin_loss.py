"""Tuplet margin loss."""

import math

from torch import Tensor
from torch.nn.functional import softplus

from mmdml.registry import MODELS
from mmdml.structures import Mined, PairBatch
from mmdml.structures.checks import check_numbers, check_positive

from .base import PairLoss
from .checks import check_cosine_space
from .pair_sums import log_sum_exp, weighted_mean


@MODELS.register_module()
class TupletMarginLoss(PairLoss):
    r"""Tuplet margin loss: a softmax of a positive against all negatives, with a slack angle.

    Yu and Tao, ICCV 2019, without its intra-pair variance term: the mean over the positive pairs (i, j) of

    .. math:: \ln\Big(1 + \sum_{k \in N_i} e^{\gamma (\cos \theta_{ik} - \cos(\theta_{ij} - \beta))}\Big)

    Equals ``TupletMarginLoss`` of pytorch-metric-learning, whose gradient is infinite or NaN for equal rows; here it is
    0 in that direction. Weights of mined pairs, and soft targets t and 1 - t, multiply the terms of positives and the
    exponentials of negatives.

    Args:
        slack: :math:`\beta` in degrees. 5.73 (0.1 radians) is that of pytorch-metric-learning.
        scale: :math:`\gamma`, above 0. 64 is that of pytorch-metric-learning.

    Raises:
        ValueError: if a setting is no number; if ``scale`` is not positive; in the forward pass, if the pairs have
            another space than cosine.

    Config::

        loss=dict(type='TupletMarginLoss', slack=5.73, scale=64.0)
    """

    soft_targets = True

    def __init__(self, slack: float = 5.73, scale: float = 64.0) -> None:
        super().__init__()
        check_numbers(slack=slack)
        check_positive(scale=scale)
        self.slack = slack
        self.scale = scale

    def forward(self, pairs: PairBatch, mined: Mined | None = None) -> Tensor:
        """Scalar loss; mined tuples, if given, replace the set of all pairs."""
        check_cosine_space(pairs, type(self).__name__)
        positive, negative = pairs.weights(mined)
        cosine = pairs.similarity
        # The bound keeps the gradient of the root finite where two rows are equal.
        sine = (1 - cosine.square()).clamp_min(1e-12).sqrt()
        slack = math.radians(self.slack)
        eased = cosine * math.cos(slack) + sine * math.sin(slack)
        against = log_sum_exp(self.scale * cosine, negative)
        return weighted_mean(softplus(against[:, None] - self.scale * eased), positive)
