"""Triplet loss."""

from torch import Tensor

from mmdml.registry import MODELS
from mmdml.structures import Mined, PairBatch, Triplets

from .base import PairLoss
from .reductions import get_reduction


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
        ValueError: if ``reduction`` is unknown; in the forward pass, if a target is neither 0 nor 1.

    Config::

        loss=dict(type='TripletLoss', margin=0.2, reduction='paper')
    """

    def __init__(self, margin: float = 0.2, reduction: str = 'paper') -> None:
        super().__init__()
        self.margin = margin
        self.reduction = reduction
        self._reduce = get_reduction(reduction)

    def forward(self, pairs: PairBatch, mined: Mined | None = None) -> Tensor:
        """Scalar loss; mined tuples, if given, replace the loss's own selection."""
        terms = self._given_terms(pairs, mined) if isinstance(mined, Triplets) else self._hardest_terms(pairs, mined)
        return self._reduce(*terms, len(pairs.anchors))

    def _given_terms(self, pairs: PairBatch, mined: Triplets) -> tuple[Tensor, Tensor]:
        """Return ``(T,)`` hinges of the given triplets, and which of them are triplets at all."""
        anchor, positive, negative = mined
        to_positive = pairs.space.distance(pairs.similarity[anchor, positive])
        to_negative = pairs.space.distance(pairs.similarity[anchor, negative])
        valid = pairs.positive_mask[anchor, positive] & pairs.negative_mask[anchor, negative]
        return (to_positive - to_negative + self.margin).relu() * valid, valid

    def _hardest_terms(self, pairs: PairBatch, mined: Mined | None) -> tuple[Tensor, Tensor]:
        """Return ``(A, X)`` weighted hinges of the positives, and their weights."""
        positive, negative = pairs.weights(mined)
        nearest = hardest_similarity(pairs.similarity, negative > 0)
        has_negative = nearest.detach() > float('-inf')
        positive = positive * has_negative[:, None]
        to_negative = pairs.space.distance(nearest.masked_fill(~has_negative, 0.0))
        return (pairs.distance() - (to_negative - self.margin)[:, None]).relu() * positive, positive


def hardest_similarity(similarity: Tensor, negatives: Tensor) -> Tensor:
    """Similarity of every anchor to its nearest negative.

    Args:
        similarity: ``(A, X)``.
        negatives: ``(A, X)`` bool.

    Returns:
        ``(A,)``; -inf for anchors without a negative. Equally near negatives share the gradient.
    """
    if similarity.shape[1] == 0:
        return similarity.new_full((len(similarity),), float('-inf'))
    return similarity.masked_fill(~negatives, float('-inf')).amax(1)
