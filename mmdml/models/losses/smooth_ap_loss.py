"""Smooth-AP loss."""

from torch import Tensor

from mmdml.registry import MODELS
from mmdml.structures import Mined, PairBatch
from mmdml.structures.checks import check_positive

from .base import PairLoss
from .pair_sums import count_above, mean_per_anchor, positive_pairs


@MODELS.register_module()
class SmoothAPLoss(PairLoss):
    r"""Smooth-AP: average precision with ranks counted by sigmoids.

    Brown et al., ECCV 2020: the mean over the anchors i that have a positive of :math:`1 - AP_i`,

    .. math:: AP_i = \frac{1}{|P_i|} \sum_{j \in P_i}
        \frac{1 + \sum_{k \in P_i \setminus j} \sigma((s_{ik} - s_{ij}) / \tau)}
             {1 + \sum_{k \in P_i \cup N_i \setminus j} \sigma((s_{ik} - s_{ij}) / \tau)}

    An anchor is no candidate of its own. In ``SmoothAPLoss`` of pytorch-metric-learning, by its note after the authors'
    code, it is one, a positive that always ranks first, and all classes must have the same number of rows; here any
    batch fits. (Version 2.9 is right only where there are as many classes as rows of each.)
    Weights of mined pairs, and soft targets t and 1 - t, are counts in the sums. Costs X numbers for every positive
    pair, by blocks.

    Args:
        temperature: :math:`\tau`, a difference of similarities, above 0. 0.01 is that of pytorch-metric-learning.

    Raises:
        ValueError: if ``temperature`` is not positive.

    Config::

        loss=dict(type='SmoothAPLoss', temperature=0.01)
    """

    soft_targets = True

    def __init__(self, temperature: float = 0.01) -> None:
        super().__init__()
        check_positive(temperature=temperature)
        self.temperature = temperature

    def forward(self, pairs: PairBatch, mined: Mined | None = None) -> Tensor:
        """Scalar loss; mined tuples, if given, replace the set of all pairs."""
        positive, negative = pairs.weights(mined)
        found = positive_pairs(positive)
        nearer, wrong = count_above(pairs.similarity, positive, negative, found, self._step, self._step).unbind(1)
        average, has_positive = mean_per_anchor((1 + nearer) / (1 + nearer + wrong), positive, found)
        return ((1 - average) * has_positive).sum() / has_positive.sum().clamp_min(1)

    def _step(self, difference: Tensor) -> Tensor:
        return (difference / self.temperature).sigmoid()
