"""Ranked list loss."""

from torch import Tensor

from mmdml.registry import MODELS
from mmdml.structures import Mined, PairBatch
from mmdml.structures.checks import check_numbers, check_positive

from .base import PairLoss

#: Largest exponent of a weight: fp32 holds up to 88, and sums need room.
_LARGEST = 70


@MODELS.register_module()
class RankedListLoss(PairLoss):
    r"""Ranked list loss: positives inside a ball, all harder negatives weighed by how far they are inside another.

    Wang et al., CVPR 2019: the mean over all anchors of :math:`(1 - \lambda) L_P + \lambda L_N` with

    .. math:: L_P = \frac{\sum_{j \in P_i} w_{ij} [d_{ij} - (\alpha - m)]_+}{\sum_j w_{ij}}, \quad
        w_{ij} = e^{T_p (d_{ij} - (\alpha - m))} \text{ where the hinge is above 0, else } 0

    and :math:`L_N` alike over the negatives, with :math:`[\alpha - d_{ik}]_+` and :math:`T_n`; a part without such a
    pair is 0. The gradient flows through the weights, too, as in ``RankedListLoss`` of pytorch-metric-learning, which
    this equals up to 1e-5 times the number of rows, a term that it adds to the sums of the weights; the authors' code
    was not compared. Weights of mined pairs, and soft targets t and 1 - t, multiply w.

    Args:
        margin: m, a distance. 0.4 is not confirmed as the paper's.
        alpha: :math:`\alpha`, a distance, above ``margin``. 1.2 is 1 + m / 2, the rule of pytorch-metric-learning.
        neg_temperature: :math:`T_n` >= 0. 10 is not confirmed as the paper's.
        pos_temperature: :math:`T_p` >= 0; 0 weighs all alike.
        balance: :math:`\lambda` in [0, 1].

    Raises:
        ValueError: if a setting is no number; if a value is out of range.

    Config::

        loss=dict(type='RankedListLoss', margin=0.4, alpha=1.2, neg_temperature=10.0)
    """

    soft_targets = True

    def __init__(
        self,
        margin: float = 0.4,
        alpha: float = 1.2,
        neg_temperature: float = 10.0,
        pos_temperature: float = 0.0,
        balance: float = 0.5,
    ) -> None:
        super().__init__()
        check_numbers(
            margin=margin,
            alpha=alpha,
            neg_temperature=neg_temperature,
            pos_temperature=pos_temperature,
            balance=balance,
        )
        check_positive(**{'alpha - margin': alpha - margin})
        if neg_temperature < 0 or pos_temperature < 0:
            raise ValueError(f'temperatures must not be negative, got {neg_temperature} and {pos_temperature}')
        if not 0 <= balance <= 1:
            raise ValueError(f'balance must lie in [0, 1], got {balance}')
        self.margin = margin
        self.alpha = alpha
        self.neg_temperature = neg_temperature
        self.pos_temperature = pos_temperature
        self.balance = balance

    def forward(self, pairs: PairBatch, mined: Mined | None = None) -> Tensor:
        """Scalar loss; mined tuples, if given, replace the set of all pairs."""
        positive, negative = pairs.weights(mined)
        distance = pairs.distance()
        far = _weighed((distance - (self.alpha - self.margin)).relu(), positive, self.pos_temperature)
        near = _weighed((self.alpha - distance).relu(), negative, self.neg_temperature)
        per_anchor = (1 - self.balance) * far + self.balance * near
        return per_anchor.sum() / max(len(per_anchor), 1)


def _weighed(hinge: Tensor, weight: Tensor, temperature: float) -> Tensor:
    """Mean of the hinges above 0 with weights ``exp(temperature hinge) weight``, ``(A, X)`` -> ``(A,)``."""
    if hinge.shape[1] == 0:
        return hinge.sum(1)
    exponent = temperature * hinge * (weight > 0)
    # Weights count by their shares: a factor of all of a row cancels.
    excess = (exponent.detach().amax(1, keepdim=True) - _LARGEST).clamp_min(0)
    weight = weight * (hinge > 0) * (exponent - excess).exp()
    total = weight.sum(1)
    return (weight * hinge).sum(1) / total.masked_fill(total == 0, 1.0)
