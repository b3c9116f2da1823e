"""Contrastive loss."""

from torch import Tensor

from mmdml.registry import MODELS
from mmdml.structures import Mined, PairBatch
from mmdml.structures.checks import check_numbers

from .base import PairLoss
from .reductions import get_reduction

#: How near the rows of a pair are, and the sign that makes a nearness of a margin.
_DISTANCES = {'cosine': (lambda pairs: pairs.similarity, 1), 'euclidean': (lambda pairs: -pairs.distance(), -1)}


@MODELS.register_module()
class ContrastiveLoss(PairLoss):
    r"""Contrastive loss with one threshold for positives and one for negatives.

    Hadsell et al., CVPR 2006, in the form of Fu et al., T-MM 2022 (IAA), Eq. 2 and 18. With ``distance='cosine'``,
    the released code's form:

    .. math:: L = \frac{1}{A} \sum_i \Big( \sum_{j \in P_i} [m_p - s_{ij}]_+ + \sum_{k \in N_i} [s_{ik} - m_n]_+ \Big)

    and with ``distance='euclidean'`` the paper's, :math:`[d_{ij} - m_p]_+` and :math:`[m_n - d_{ik}]_+` with
    :math:`d = \sqrt{2 - 2s}`. The default cosine margins 0.8 and 0.5 are the distances 0.6325 and 1.

    Weights of mined pairs multiply their terms. A pair of soft target t brings t times the one and 1 - t times the
    other term.

    Args:
        pos_margin: positives closer than this cost nothing.
        neg_margin: negatives farther than this cost nothing.
        distance: 'cosine' (margins in [-1, 1]) or 'euclidean' (margins in [0, 2]).
        reduction: 'paper', the sum over pairs divided by the number of anchors; it grows with the number of
            candidates. 'mean', the mean over all positive and negative pairs, with or without a loss; it does not.

    Raises:
        ValueError: if a setting is no number; if ``distance`` or ``reduction`` is unknown.

    Config::

        loss=dict(type='ContrastiveLoss', pos_margin=0.8, neg_margin=0.5)
    """

    soft_targets = True

    def __init__(
        self, pos_margin: float = 0.8, neg_margin: float = 0.5, distance: str = 'cosine', reduction: str = 'paper'
    ) -> None:
        super().__init__()
        check_numbers(pos_margin=pos_margin, neg_margin=neg_margin)
        if distance not in _DISTANCES:
            raise ValueError(f'distance must be one of {sorted(_DISTANCES)}, got {distance!r}')
        self.pos_margin = pos_margin
        self.neg_margin = neg_margin
        self.distance = distance
        self.reduction = reduction
        self._reduce = get_reduction(reduction)

    def forward(self, pairs: PairBatch, mined: Mined | None = None) -> Tensor:
        """Scalar loss; mined tuples, if given, replace the set of all pairs."""
        nearness_of, sign = _DISTANCES[self.distance]
        nearness = nearness_of(pairs)
        positive, negative = pairs.weights(mined)
        terms = positive * (sign * self.pos_margin - nearness).relu_()
        terms = terms + negative * (nearness - sign * self.neg_margin).relu_()
        return self._reduce(terms, positive + negative, len(pairs.anchors))
