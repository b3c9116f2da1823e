"""Generalized lifted structure loss."""

from torch import Tensor

from mmdml.registry import MODELS
from mmdml.structures import Mined, PairBatch
from mmdml.structures.checks import check_numbers

from .base import PairLoss
from .pair_sums import log_sum_exp


@MODELS.register_module()
class GeneralizedLiftedStructureLoss(PairLoss):
    r"""Lifted structure loss over all positives of an anchor at once.

    Hermans et al., arXiv 1703.07737: the mean over the anchors that have a positive and a negative of

    .. math:: \Big[ \ln \sum_{j \in P_i} e^{d_{ij}} + \ln \sum_{k \in N_i} e^{m - d_{ik}} \Big]_+

    Equals ``GeneralizedLiftedStructureLoss`` of pytorch-metric-learning where every anchor has both; there, the sum
    that is missing counts 0, and all anchors are averaged. Weights of mined pairs, and soft targets t and 1 - t,
    multiply the exponentials.

    Args:
        margin: m, a distance. 1 is that of pytorch-metric-learning.

    Raises:
        ValueError: if a setting is no number.

    Config::

        loss=dict(type='GeneralizedLiftedStructureLoss', margin=1.0)
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
        both = log_sum_exp(distance, positive) + log_sum_exp(self.margin - distance, negative)
        # Anchors without a positive or a negative have -inf here, and so a loss of 0.
        return both.relu().sum() / (both.detach() > float('-inf')).sum().clamp_min(1)
