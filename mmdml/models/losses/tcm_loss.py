"""Threshold-consistent margin loss."""

from torch import Tensor

from mmdml.registry import MODELS
from mmdml.structures import Mined, PairBatch
from mmdml.structures.checks import check_numbers

from .base import PairLoss
from .pair_sums import weighted_mean


@MODELS.register_module()
class TCMLoss(PairLoss):
    r"""Threshold-consistent margin loss: absolute cosines, so that one threshold serves all classes.

    Zhang et al., ICLR 2024, a term beside another loss (``regularizers`` of the head with ``LossTerm``), or a loss:

    .. math:: L = \lambda^+ \frac{\sum [m^+ - s_{ij}]_+}{\#\{s_{ij} \leq m^+\}}
        + \lambda^- \frac{\sum [s_{ik} - m^-]_+}{\#\{s_{ik} \geq m^-\}}

    over positive pairs (i, j) and negative pairs (i, k); a part without such a pair is 0. Equals
    ``ThresholdConsistentMarginLoss`` of pytorch-metric-learning, whose defaults these are. Weights of mined pairs, and
    soft targets t and 1 - t, multiply terms and counts.

    Args:
        pos_margin: :math:`m^+`, a similarity.
        neg_margin: :math:`m^-`, a similarity.
        pos_weight: :math:`\lambda^+` >= 0.
        neg_weight: :math:`\lambda^-` >= 0.

    Raises:
        ValueError: if a setting is no number; if a weight is negative.

    Config::

        loss=dict(type='TCMLoss', pos_margin=0.9, neg_margin=0.5)
    """

    soft_targets = True

    def __init__(
        self, pos_margin: float = 0.9, neg_margin: float = 0.5, pos_weight: float = 1.0, neg_weight: float = 1.0
    ) -> None:
        super().__init__()
        check_numbers(pos_margin=pos_margin, neg_margin=neg_margin, pos_weight=pos_weight, neg_weight=neg_weight)
        if pos_weight < 0 or neg_weight < 0:
            raise ValueError(f'weights must not be negative, got {pos_weight} and {neg_weight}')
        self.pos_margin = pos_margin
        self.neg_margin = neg_margin
        self.pos_weight = pos_weight
        self.neg_weight = neg_weight

    def forward(self, pairs: PairBatch, mined: Mined | None = None) -> Tensor:
        """Scalar loss; mined tuples, if given, replace the set of all pairs."""
        positive, negative = pairs.weights(mined)
        too_far, too_near = self.pos_margin - pairs.similarity, pairs.similarity - self.neg_margin
        return self.pos_weight * weighted_mean(too_far, positive * (too_far >= 0)) + self.neg_weight * weighted_mean(
            too_near, negative * (too_near >= 0)
        )
