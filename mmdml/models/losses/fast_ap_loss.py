"""FastAP loss."""

from torch import Tensor

from mmdml.registry import MODELS
from mmdml.structures import Mined, PairBatch
from mmdml.structures.checks import check_numbers
from mmdml.utils.numbers import check_counts

from .base import PairLoss
from .checks import check_cosine_space


@MODELS.register_module()
class FastAPLoss(PairLoss):
    r"""FastAP: average precision from soft histograms of the distances.

    Cakir et al., CVPR 2019. The squared distances :math:`2 - 2s` of an anchor's candidates spread over the two
    nearest of L + 1 nodes from 0 to 4; with :math:`h^+_l` of the positives, :math:`h_l` of all, and their cumulated
    sums :math:`H^+_l, H_l`, the loss is the mean over the anchors i that have a positive of

    .. math:: 1 - \frac{1}{|P_i|} \sum_{l=0}^{L} \frac{H^+_l h^+_l}{H_l}

    in [0, 1]. Equals ``FastAPLoss`` of pytorch-metric-learning without a miner. Weights of mined pairs, and soft
    targets t and 1 - t, are counts in the histograms.

    Args:
        num_bins: L, the number of intervals, 1 or more. 10 is that of pytorch-metric-learning.

    Raises:
        ValueError: if ``num_bins`` is no integer of at least 1; in the forward pass, if the pairs have another space
            than cosine.

    Config::

        loss=dict(type='FastAPLoss', num_bins=10)
    """

    soft_targets = True

    def __init__(self, num_bins: int = 10) -> None:
        super().__init__()
        check_numbers(num_bins=num_bins)
        check_counts(num_bins=num_bins)
        self.num_bins = num_bins

    def forward(self, pairs: PairBatch, mined: Mined | None = None) -> Tensor:
        """Scalar loss; mined tuples, if given, replace the set of all pairs."""
        check_cosine_space(pairs, type(self).__name__)
        positive, negative = pairs.weights(mined)
        # Rounding may carry a cosine out of [-1, 1].
        place = (1 - pairs.similarity.clamp(-1, 1)) * (self.num_bins / 2)
        lower = place.detach().floor().long().clamp(0, self.num_bins - 1)
        upper_share = place - lower

        def histogram(weight: Tensor) -> Tensor:
            upper = weight * upper_share
            counts = place.new_zeros(len(place), self.num_bins + 1)
            return counts.scatter_add(1, lower, weight - upper).scatter_add(1, lower + 1, upper)

        near, total = histogram(positive), histogram(positive + negative).cumsum(1)
        precision = near.cumsum(1) / total.masked_fill(total <= 0, 1.0)
        number = positive.sum(1)
        has_positive = number > 0
        average = (precision * near).sum(1) / number.masked_fill(~has_positive, 1.0)
        return ((1 - average) * has_positive).sum() / has_positive.sum().clamp_min(1)
