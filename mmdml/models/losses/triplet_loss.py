"""Triplet loss."""

import torch
from torch import Tensor

from mmdml.models.miners.batch_hard_miner import hardest_similarity
from mmdml.registry import MODELS
from mmdml.structures import PairBatch, Triplets
from mmdml.structures.mined import Mined

from .base import PairLoss, get_reduction, unit_distance


@MODELS.register_module()
class TripletLoss(PairLoss):
    r"""Triplet loss: every positive against the hardest negative.

    Schroff et al., CVPR 2015, in the form of Fu et al., T-MM 2022 (IAA), Eq. 3 and 19:

    .. math:: L = \frac{1}{A} \sum_i \sum_{j \in P_i} \big[ d_{ij} - \min_{k \in N_i} d_{ik} + m \big]_+,
        \quad d = \sqrt{2 - 2s}

    The IAA paper states neither the margin nor the distance; Euclidean distance on unit vectors and 0.2 are ours.

    Mined :class:`~mmdml.structures.Triplets` are used exactly as they are, one term each. Of mined
    :class:`~mmdml.structures.Pairs` every positive meets the hardest mined negative of its anchor, and the weights of
    the positives multiply the terms.

    Args:
        margin: distance by which a negative must lie beyond a positive, in [0, 2].
        reduction: 'paper', the sum over triplets divided by the number of anchors; it grows with the number of
            candidates. 'mean', the mean over all triplets, with or without a loss; it does not.

    Raises:
        ValueError: if ``reduction`` is unknown.

    Example:
        >>> loss = dict(type='TripletLoss', margin=0.2, reduction='paper')
    """

    def __init__(self, margin: float = 0.2, reduction: str = 'paper') -> None:
        super().__init__()
        self.margin = margin
        self.reduction = reduction
        self._reduce = get_reduction(reduction)

    def extra_repr(self) -> str:
        return f'margin={self.margin}, reduction={self.reduction!r}'

    def forward(self, pairs: PairBatch, mined: Mined | None = None) -> Tensor:
        """Scalar loss; mined tuples, if given, replace the loss's own selection."""
        if isinstance(mined, Triplets):
            terms, weight = self._given_terms(pairs, mined)
        else:
            terms, weight, _ = self._hardest_terms(pairs, mined)
        return self._reduce(terms, weight, len(pairs.anchors))

    def active_pairs(self, pairs: PairBatch, mined: Mined | None = None) -> Tensor:
        """``(A, X)`` bool: positives and negatives of the triplets that violate the margin."""
        if isinstance(mined, Triplets):
            violated = self._given_terms(pairs, mined)[0] > 0
            anchor, positive, negative = (index[violated] for index in mined)
            active = torch.zeros_like(pairs.positive_mask)
            active[anchor, positive] = True
            active[anchor, negative] = True
            return active
        terms, _, hardest = self._hardest_terms(pairs, mined)
        violated = terms > 0
        return violated | (hardest & violated.any(1, keepdim=True))

    def _given_terms(self, pairs: PairBatch, mined: Triplets) -> tuple[Tensor, Tensor]:
        """``(T,)`` hinges of the given triplets, and which of them are triplets at all."""
        anchor, positive, negative = mined
        to_positive = unit_distance(pairs.similarity[anchor, positive])
        to_negative = unit_distance(pairs.similarity[anchor, negative])
        valid = pairs.positive_mask[anchor, positive] & pairs.negative_mask[anchor, negative]
        return (to_positive - to_negative + self.margin).relu() * valid, valid

    def _hardest_terms(self, pairs: PairBatch, mined: Mined | None) -> tuple[Tensor, Tensor, Tensor]:
        """``(A, X)`` weighted hinges of the positives, their weights, and the mask of the hardest negatives."""
        similarity = pairs.similarity
        weight, negatives = (pairs.positive_mask, pairs.negative_mask) if mined is None else pairs.weights(mined)
        negatives = negatives > 0
        nearest = hardest_similarity(similarity, negatives)
        has_negative = nearest.detach() > float('-inf')
        weight = weight * has_negative[:, None]
        to_negative = unit_distance(nearest.masked_fill(~has_negative, 0.0))
        hinge = (unit_distance(similarity) - (to_negative - self.margin)[:, None]).relu()
        return hinge * weight, weight, negatives & (similarity == nearest[:, None])
