"""Contrastive loss."""

import torch
from torch import Tensor

from mmdml.registry import MODELS
from mmdml.structures import PairBatch
from mmdml.structures.mined import Mined

from .base import PairLoss, get_reduction, unit_distance

# Closeness of a pair from its cosine similarity, and the sign that makes a closeness of a margin.
_SPACES = {
    'cosine': (lambda similarity: similarity, 1),
    'euclidean': (lambda similarity: -unit_distance(similarity), -1),
}


@MODELS.register_module()
class ContrastiveLoss(PairLoss):
    r"""Contrastive loss with one threshold for positives and one for negatives.

    Hadsell et al., CVPR 2006, in the form of Fu et al., T-MM 2022 (IAA), Eq. 2 and 18. With ``distance='cosine'``,
    the released code's form:

    .. math:: L = \frac{1}{A} \sum_i \Big( \sum_{j \in P_i} [m_p - s_{ij}]_+ + \sum_{k \in N_i} [s_{ik} - m_n]_+ \Big)

    and with ``distance='euclidean'`` the paper's, :math:`[d_{ij} - m_p]_+` and :math:`[m_n - d_{ik}]_+` with
    :math:`d = \sqrt{2 - 2s}`. The default cosine margins 0.8 and 0.5 are the distances 0.6325 and 1.

    Weights of mined pairs multiply their terms.

    Args:
        pos_margin: positives closer than this cost nothing.
        neg_margin: negatives farther than this cost nothing.
        distance: 'cosine' (margins in [-1, 1]) or 'euclidean' (margins in [0, 2]).
        reduction: 'paper', the sum over pairs divided by the number of anchors; it grows with the number of
            candidates. 'mean', the mean over all positive and negative pairs, with or without a loss; it does not.

    Raises:
        ValueError: if ``distance`` or ``reduction`` is unknown.

    Example:
        >>> loss = dict(type='ContrastiveLoss', pos_margin=0.8, neg_margin=0.5)
    """

    def __init__(
        self, pos_margin: float = 0.8, neg_margin: float = 0.5, distance: str = 'cosine', reduction: str = 'paper'
    ) -> None:
        super().__init__()
        if distance not in _SPACES:
            raise ValueError(f'distance must be one of {sorted(_SPACES)}, got {distance!r}')
        self.pos_margin = pos_margin
        self.neg_margin = neg_margin
        self.distance = distance
        self.reduction = reduction
        self._reduce = get_reduction(reduction)

    def extra_repr(self) -> str:
        return (
            f'pos_margin={self.pos_margin}, neg_margin={self.neg_margin}, distance={self.distance!r}, '
            f'reduction={self.reduction!r}'
        )

    def forward(self, pairs: PairBatch, mined: Mined | None = None) -> Tensor:
        """Scalar loss; mined pairs, if given, replace the set of all pairs."""
        return self._reduce(*self._terms(pairs, mined), len(pairs.anchors))

    def active_pairs(self, pairs: PairBatch, mined: Mined | None = None) -> Tensor:
        """``(A, X)`` bool: the pairs on the wrong side of their margin."""
        return self._terms(pairs, mined)[0] > 0

    def _terms(self, pairs: PairBatch, mined: Mined | None) -> tuple[Tensor, Tensor]:
        """``(A, X)`` weighted hinges, and the weights."""
        closeness_of, sign = _SPACES[self.distance]
        closeness = closeness_of(pairs.similarity)
        gap = torch.where(pairs.positive_mask, sign * self.pos_margin - closeness, closeness - sign * self.neg_margin)
        weight = ~pairs.excluded_mask if mined is None else torch.add(*pairs.weights(mined))
        return gap.relu() * weight, weight
