"""ROADMAP loss."""

import torch
from torch import Tensor

from mmdml.registry import MODELS
from mmdml.structures import Mined, PairBatch
from mmdml.structures.checks import check_numbers, check_positive

from .base import PairLoss
from .pair_sums import count_above, mean_of_hinges, mean_per_anchor, positive_pairs


@MODELS.register_module()
class RoadmapLoss(PairLoss):
    r"""ROADMAP: a smooth upper bound of 1 - AP, and a calibration of the similarities.

    Ramzi et al., NeurIPS 2021: :math:`L = (1 - \lambda) L_{SupAP} + \lambda L_{calib}`. The first is the mean
    over the anchors i that have a positive of

    .. math:: 1 - \frac{1}{|P_i|} \sum_{j \in P_i} \frac{r^+_{ij}}{r^+_{ij} + \sum_{k \in N_i} H^-(s_{ik} - s_{ij})},
        \quad r^+_{ij} = 1 + \#\{k \in P_i : s_{ik} > s_{ij}\}

    .. math:: H^-(x) = \sigma(x / \tau) \; (x \leq 0), \quad \sigma(x / \tau) + \tfrac{1}{2} \; (0 < x \leq \delta),
        \quad \rho (x - \delta) + o \; (x > \delta)

    :math:`H^-` is nowhere below the true step, and negatives that are ranked too high have a gradient however high
    they are; the count of positives has none. The second is the mean of :math:`m_p - s_{ij}` over the positive plus the
    mean of :math:`s_{ik} - m_n` over the negative pairs for which it is above 0, as in the authors' code.

    Weights of mined pairs, and soft targets t and 1 - t, are counts in the sums. Costs X numbers for every positive
    pair, by blocks.

    Args:
        temperature: :math:`\tau`, a difference of similarities, above 0.
        slope: :math:`\rho`.
        offset: o. The release has 1.44; without a jump at :math:`\delta` it would be 1.4933 for the other defaults.
        delta: :math:`\delta`, a difference of similarities.
        pos_margin: :math:`m_p`, a similarity.
        neg_margin: :math:`m_n`, a similarity.
        calibration: :math:`\lambda` in [0, 1].

    Raises:
        ValueError: if a setting is no number; if ``temperature`` is not positive or ``calibration`` is out of range.

    Config::

        loss=dict(type='RoadmapLoss', temperature=0.01, slope=100.0, delta=0.05, calibration=0.5)
    """

    soft_targets = True

    def __init__(
        self,
        temperature: float = 0.01,
        slope: float = 100.0,
        offset: float = 1.44,
        delta: float = 0.05,
        pos_margin: float = 0.9,
        neg_margin: float = 0.6,
        calibration: float = 0.5,
    ) -> None:
        super().__init__()
        check_numbers(
            slope=slope,
            offset=offset,
            delta=delta,
            pos_margin=pos_margin,
            neg_margin=neg_margin,
            calibration=calibration,
        )
        check_positive(temperature=temperature)
        if not 0 <= calibration <= 1:
            raise ValueError(f'calibration must lie in [0, 1], got {calibration}')
        self.temperature = temperature
        self.slope = slope
        self.offset = offset
        self.delta = delta
        self.pos_margin = pos_margin
        self.neg_margin = neg_margin
        self.calibration = calibration

    def forward(self, pairs: PairBatch, mined: Mined | None = None) -> Tensor:
        """Scalar loss; mined tuples, if given, replace the set of all pairs."""
        positive, negative = pairs.weights(mined)
        similarity = pairs.similarity
        found = positive_pairs(positive)
        nearer, wrong = count_above(similarity, positive, negative, found, _true_step, self._upper_step).unbind(1)
        average, has_positive = mean_per_anchor((1 + nearer) / (1 + nearer + wrong), positive, found)
        ranking = ((1 - average) * has_positive).sum() / has_positive.sum().clamp_min(1)
        apart = mean_of_hinges((self.pos_margin - similarity).relu(), positive)
        apart = apart + mean_of_hinges((similarity - self.neg_margin).relu(), negative)
        return (1 - self.calibration) * ranking + self.calibration * apart

    def _upper_step(self, difference: Tensor) -> Tensor:
        smooth = (difference / self.temperature).sigmoid() + 0.5 * (difference > 0)
        return torch.where(difference > self.delta, self.slope * (difference - self.delta) + self.offset, smooth)


def _true_step(difference: Tensor) -> Tensor:
    return (difference > 0).to(difference.dtype)
