"""Multi-similarity loss."""

import torch
from torch import Tensor

from mmdml.registry import MODELS
from mmdml.structures import Mined, PairBatch
from mmdml.structures.checks import check_numbers

from .base import PairLoss

#: Positives at least this similar are near-duplicates and dropped before anything else.
NEAR_DUPLICATE = 1 - 1e-5


@MODELS.register_module()
class MultiSimilarityLoss(PairLoss):
    r"""Multi-similarity loss with its own pair mining.

    Wang et al., CVPR 2019; Fu et al., T-MM 2022 (IAA), Eq. 4-6 and 20. Eq. 5 and 6, the pairs that take part, are
    in :func:`multi_similarity_mask`; Eq. 4 is

    .. math:: L = \frac{1}{A} \sum_i \frac{1}{\alpha} \ln\Big(1 + \sum_{j \in P^*_i} e^{-\alpha (s_{ij} - b)}\Big)
        + \frac{1}{\beta} \ln\Big(1 + \sum_{k \in N^*_i} e^{\beta (s_{ik} - b)}\Big)

    The divisor is the number of anchors, those without mined pairs included. Mined tuples, if given, replace
    :math:`P^*_i` and :math:`N^*_i`. Their weights, and soft targets t and 1 - t, multiply the exponentials.

    Args:
        alpha: sharpness for positives, above 0.
        beta: sharpness for negatives, above 0.
        base: similarity :math:`b` that separates near from far, in [-1, 1].
        epsilon: margin of the mining, a difference of similarities.

    Raises:
        ValueError: if a setting is no number; if ``alpha`` or ``beta`` is not positive.

    Config::

        loss=dict(type='MultiSimilarityLoss', alpha=2.0, beta=40.0, base=0.5, epsilon=0.1)
    """

    soft_targets = True

    def __init__(self, alpha: float = 2.0, beta: float = 40.0, base: float = 0.5, epsilon: float = 0.1) -> None:
        super().__init__()
        check_numbers(alpha=alpha, beta=beta, base=base, epsilon=epsilon)
        if alpha <= 0 or beta <= 0:
            raise ValueError(f'alpha and beta must be positive, got {alpha} and {beta}')
        self.alpha, self.beta = alpha, beta
        self.base, self.epsilon = base, epsilon

    def forward(self, pairs: PairBatch, mined: Mined | None = None) -> Tensor:
        """Scalar loss; mined tuples, if given, replace the loss's own mining."""
        positive, negative = pairs.weights(mined if mined is not None else multi_similarity_mask(pairs, self.epsilon))
        centered = pairs.similarity - self.base
        per_anchor = (
            _log1p_sum_exp(-self.alpha * centered, positive) / self.alpha
            + _log1p_sum_exp(self.beta * centered, negative) / self.beta
        )
        return per_anchor.sum() / max(len(per_anchor), 1)


def multi_similarity_mask(pairs: PairBatch, epsilon: float) -> Tensor:
    r"""Pairs that the multi-similarity loss uses, ``(A, X)`` bool.

    Wang et al., CVPR 2019; IAA (Fu et al., T-MM 2022), Eq. 5 and 6. With :math:`P'_i` the positives of anchor i
    below 1 - 1e-5:

    .. math::
        N^*_i = \{ k \in N_i : s_{ik} + \epsilon > \min_{j \in P'_i} s_{ij} \}, \quad
        P^*_i = \{ j \in P'_i : s_{ij} - \epsilon < \max_{k \in N_i} s_{ik} \}

    Anchors for which one of the four sets is empty have no pairs at all.
    """
    similarity = pairs.similarity.detach()
    if similarity.shape[1] == 0:
        return pairs.positive_mask
    positives, negatives = pairs.positive_mask & (similarity < NEAR_DUPLICATE), pairs.negative_mask
    farthest = torch.where(positives, similarity, float('inf')).amin(1, keepdim=True)
    nearest = torch.where(negatives, similarity, float('-inf')).amax(1, keepdim=True)
    # The extremes are members of their sets, so they show whether a mined set is empty; an empty P' or N does too.
    kept = (farthest - epsilon < nearest) & (nearest + epsilon > farthest)
    mined = (positives & (similarity - epsilon < nearest)) | (negatives & (similarity + epsilon > farthest))
    return mined & kept


def _log1p_sum_exp(logits: Tensor, weight: Tensor) -> Tensor:
    """ln(1 + sum_x weight exp(logits)) of every row, without overflow. Twice (A, X) -> (A,)."""
    if logits.shape[1] == 0:
        return logits.sum(1)
    # 0 where no weight is (exponentials of -inf are slow), and NaN stays. The shift cancels in the gradient, too.
    logits = logits * (weight != 0)
    shift = logits.detach().amax(1).clamp_min(0)
    total = ((logits - shift[:, None]).exp() * weight).sum(1)
    less_one = torch.expm1(-shift) + total
    # Beside the -1 small weights would be lost, down to ln 0.
    small = less_one < -0.999
    return shift + torch.where(small, (torch.exp(-shift) + total).log(), torch.log1p(less_one.masked_fill(small, 0)))
