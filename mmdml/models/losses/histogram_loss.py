"""Histogram loss."""

from torch import Tensor

from mmdml.registry import MODELS
from mmdml.structures import Mined, PairBatch
from mmdml.structures.checks import check_numbers
from mmdml.utils.numbers import check_counts

from .base import PairLoss
from .checks import check_cosine_space


@MODELS.register_module()
class HistogramLoss(PairLoss):
    r"""Histogram loss: the probability that a negative pair is more similar than a positive one.

    Ustinova and Lempitsky, NIPS 2016. Similarities of all positive and of all negative pairs spread over the
    two nearest of the nodes :math:`t_0 = -1, \ldots, t_R = 1`, in proportion to their nearness, which gives the
    densities :math:`h^+, h^-` (each of sum 1), and

    .. math:: L = \sum_{r=0}^{R} h^-_r \sum_{q=0}^{r} h^+_q

    in [0, 1]; 0 without positives or without negatives. Equals ``HistogramLoss`` of pytorch-metric-learning, which
    leaves out pairs of anchors that have no positive or no negative. Weights of mined pairs, and soft targets t and
    1 - t, are shares of the densities. Pairs that no pair of the other kind is near have no gradient, so it is for
    batches of many pairs.

    Args:
        num_bins: R, the number of intervals, 1 or more. 100 is that of pytorch-metric-learning.

    Raises:
        ValueError: if ``num_bins`` is no integer of at least 1; in the forward pass, if the pairs have another space
            than cosine.

    Config::

        loss=dict(type='HistogramLoss', num_bins=100)
    """

    soft_targets = True

    def __init__(self, num_bins: int = 100) -> None:
        super().__init__()
        check_numbers(num_bins=num_bins)
        check_counts(num_bins=num_bins)
        self.num_bins = num_bins

    def forward(self, pairs: PairBatch, mined: Mined | None = None) -> Tensor:
        """Scalar loss; mined tuples, if given, replace the set of all pairs."""
        check_cosine_space(pairs, type(self).__name__)
        positive, negative = (self._density(pairs.similarity, weight) for weight in pairs.weights(mined))
        return (negative * positive.cumsum(0)).sum()

    def _density(self, similarity: Tensor, weight: Tensor) -> Tensor:
        """Soft histogram of similarities ``(A, X)`` with weights ``(A, X)`` -> ``(R + 1,)`` of sum 1, or of zeros."""
        weight, similarity = weight[weight > 0], similarity[weight > 0]
        # Rounding may carry a cosine out of [-1, 1].
        place = (similarity.clamp(-1, 1) + 1) * (self.num_bins / 2)
        lower = place.detach().floor().long().clamp(0, self.num_bins - 1)
        upper_share = weight * (place - lower)
        density = similarity.new_zeros(self.num_bins + 1)
        density = density.index_add(0, lower, weight - upper_share).index_add(0, lower + 1, upper_share)
        return density / weight.sum().clamp_min(1e-12)
