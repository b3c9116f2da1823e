"""Multi-similarity loss."""

import torch
from torch import Tensor

from mmdml.models.miners.multi_similarity_miner import multi_similarity_masks
from mmdml.registry import MODELS
from mmdml.structures import PairBatch
from mmdml.structures.mined import Mined

from .base import PairLoss


@MODELS.register_module()
class MultiSimilarityLoss(PairLoss):
    r"""Multi-similarity loss with its own pair mining.

    Wang et al., CVPR 2019; Fu et al., T-MM 2022 (IAA), Eq. 4-6 and 20. Eq. 5 and 6, the pairs that take part, are
    in :func:`~mmdml.models.miners.multi_similarity_miner.multi_similarity_masks`; Eq. 4 is

    .. math:: L = \frac{1}{A} \sum_i \frac{1}{\alpha} \ln\Big(1 + \sum_{j \in P^*_i} e^{-\alpha (s_{ij} - b)}\Big)
        + \frac{1}{\beta} \ln\Big(1 + \sum_{k \in N^*_i} e^{\beta (s_{ik} - b)}\Big)

    The divisor is the number of anchors, those without mined pairs included. Mined tuples, if given, replace
    :math:`P^*_i` and :math:`N^*_i`, and their weights multiply the exponentials.

    Args:
        alpha: sharpness for positives.
        beta: sharpness for negatives.
        base: similarity :math:`b` that separates near from far, in [-1, 1].
        epsilon: margin of the mining.

    Raises:
        ValueError: if ``alpha`` or ``beta`` is not positive.

    Example:
        >>> loss = dict(type='MultiSimilarityLoss', alpha=2.0, beta=40.0, base=0.5, epsilon=0.1)
    """

    def __init__(self, alpha: float = 2.0, beta: float = 40.0, base: float = 0.5, epsilon: float = 0.1) -> None:
        super().__init__()
        if alpha <= 0 or beta <= 0:
            raise ValueError(f'alpha and beta must be positive, got {alpha} and {beta}')
        self.alpha = alpha
        self.beta = beta
        self.base = base
        self.epsilon = epsilon

    def extra_repr(self) -> str:
        return f'alpha={self.alpha}, beta={self.beta}, base={self.base}, epsilon={self.epsilon}'

    def forward(self, pairs: PairBatch, mined: Mined | None = None) -> Tensor:
        """Scalar loss; mined tuples, if given, replace the loss's own mining."""
        centred = pairs.similarity - self.base
        positive, negative = self._log_weights(pairs, mined)
        per_anchor = (
            _log1p_sum_exp(positive - self.alpha * centred) / self.alpha
            + _log1p_sum_exp(negative + self.beta * centred) / self.beta
        )
        return per_anchor.sum() / max(len(pairs.anchors), 1)

    def active_pairs(self, pairs: PairBatch, mined: Mined | None = None) -> Tensor:
        """``(A, X)`` bool: the mined pairs."""
        positive, negative = self._log_weights(pairs, mined)
        return (positive > float('-inf')) | (negative > float('-inf'))

    def _log_weights(self, pairs: PairBatch, mined: Mined | None) -> tuple[Tensor, Tensor]:
        """``(A, X)`` logarithms of the positives' and negatives' weights; -inf where a pair takes no part."""
        if mined is None:
            weights = multi_similarity_masks(
                pairs.similarity.detach(), pairs.positive_mask, pairs.negative_mask, self.epsilon
            )
        else:
            weights = pairs.weights(mined)
        dtype = pairs.similarity.dtype
        return weights[0].to(dtype).log(), weights[1].to(dtype).log()


def _log1p_sum_exp(logits: Tensor) -> Tensor:
    """ln(1 + sum_x exp(logits)) of every row, without overflow; -inf entries add nothing. (A, X) -> (A,)."""
    if logits.shape[1] == 0:
        return logits.sum(1)
    # The shift cancels in value and gradient alike, so none has to flow through it.
    shift = logits.detach().amax(1).clamp_min(0)
    return shift + torch.log1p(torch.expm1(-shift) + (logits - shift[:, None]).exp().sum(1))
