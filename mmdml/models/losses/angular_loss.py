"""Angular loss."""

import math

from torch import Tensor
from torch.nn.functional import softplus

from mmdml.registry import MODELS
from mmdml.structures import Mined, PairBatch
from mmdml.structures.checks import check_numbers

from .base import PairLoss
from .checks import check_cosine_space
from .pair_sums import log_sum_exp, mean_of_positive_pairs, positive_pairs


@MODELS.register_module()
class AngularLoss(PairLoss):
    r"""Angular loss: bound the angle at the negative of the triangle of anchor, positive and negative.

    Wang et al., ICCV 2017: the mean over the positive pairs (i, j) of

    .. math:: \ln\Big(1 + \sum_{k \in N_i} e^{4 \tan^2 \alpha \, (x_i + x_j)^T x_k
        - 2 (1 + \tan^2 \alpha) \, x_i^T x_j}\Big)

    for unit rows. Equals ``AngularLoss`` of pytorch-metric-learning, which does not normalize the negatives, for unit
    rows. Weights of mined pairs, and soft targets t and 1 - t, multiply the terms of positives and the exponentials of
    negatives. Costs X numbers for every positive pair, by blocks.

    Args:
        angle: :math:`\alpha` in degrees, in (0, 90). 40 is that of pytorch-metric-learning.

    Raises:
        ValueError: if a setting is no number; if ``angle`` is out of range; in the forward pass, if the pairs have
            another space than cosine.

    Config::

        loss=dict(type='AngularLoss', angle=40.0)
    """

    soft_targets = True

    def __init__(self, angle: float = 40.0) -> None:
        super().__init__()
        check_numbers(angle=angle)
        if not 0 < angle < 90:
            raise ValueError(f'angle must lie between 0 and 90 degrees, got {angle}')
        self.angle = angle

    def forward(self, pairs: PairBatch, mined: Mined | None = None) -> Tensor:
        """Scalar loss; mined tuples, if given, replace the set of all pairs."""
        check_cosine_space(pairs, type(self).__name__)
        positive, negative = pairs.weights(mined)
        tangent = math.tan(math.radians(self.angle)) ** 2
        found = positive_pairs(positive)
        anchor, candidate, _ = found
        own = 2 * (1 + tangent) * pairs.similarity[anchor, candidate]
        logits = 4 * tangent * pairs.similarity
        between = 4 * tangent * PairBatch(pairs.candidates, pairs.candidates).similarity

        def terms(block: Tensor) -> Tensor:
            row = anchor[block]
            each = logits.index_select(0, row) + between.index_select(0, candidate[block])
            return softplus(log_sum_exp(each, negative.index_select(0, row)) - own[block])

        return mean_of_positive_pairs(terms, found, positive.shape[1])
