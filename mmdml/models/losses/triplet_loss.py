"""Triplet loss."""

import torch
from torch import Tensor
from torch.nn.functional import softplus

from mmdml.registry import MODELS
from mmdml.structures import Mined, PairBatch, Triplets
from mmdml.structures.checks import check_numbers

from .base import PairLoss
from .pair_sums import in_blocks, positive_pairs
from .reductions import get_reduction

#: Which negatives of its anchor a positive meets.
NEGATIVES = ('hardest', 'all')


@MODELS.register_module()
class TripletLoss(PairLoss):
    r"""Triplet loss: every positive against the hardest negative, or against all.

    Schroff et al., CVPR 2015, in the form of Fu et al., T-MM 2022 (IAA), Eq. 3 and 19:

    .. math:: L = \frac{1}{A} \sum_i \sum_{j \in P_i} \big[ d_{ij} - \min_{k \in N_i} d_{ik} + m \big]_+,
        \quad d = \sqrt{2 - 2s}

    The IAA paper states neither the margin nor the distance; Euclidean distance on unit vectors and 0.2 are ours.

    ``negatives='all'`` sums over all k in N_i in place of the minimum ("batch all" of Hermans et al., arXiv 1703.07737,
    Sec. 2), and ``soft=True`` has their soft margin :math:`\ln(1 + e^{x})` in place of :math:`[x]_+`; the hardest
    positive comes from ``BatchHardMiner``, the semi-hard negative from ``SemiHardMiner``, the easiest positive from
    ``EasyPositiveMiner``. With ``negatives='all', reduction='nonzero'`` this equals ``TripletMarginLoss`` of
    pytorch-metric-learning.

    Mined :class:`~mmdml.structures.Triplets` are used exactly as they are, one term each. Of mined
    :class:`~mmdml.structures.Pairs` every positive meets the hardest mined negative of its anchor, or all of them, and
    the weights of the positives (of both, for all negatives) multiply the terms.

    Args:
        margin: distance by which a negative must lie beyond a positive, in [0, 2]; 0 with the soft margin of Hermans
            et al.
        reduction: 'paper', the sum over triplets divided by the number of anchors; it grows with the number of
            candidates. 'mean', the mean over all triplets, with or without a loss, and 'nonzero', the mean over those
            with one, do not.
        negatives: 'hardest' or 'all'. All cost X numbers for every positive pair, by blocks.
        soft: take the soft margin.

    Raises:
        ValueError: if a setting is no number; if ``reduction`` or ``negatives`` is unknown; in the forward pass, if a
            target is neither 0 nor 1.

    Config::

        loss=dict(type='TripletLoss', margin=0.2, reduction='paper')
    """

    def __init__(
        self, margin: float = 0.2, reduction: str = 'paper', negatives: str = 'hardest', soft: bool = False
    ) -> None:
        super().__init__()
        check_numbers(margin=margin)
        if negatives not in NEGATIVES:
            raise ValueError(f'negatives must be one of {NEGATIVES}, got {negatives!r}')
        self.negatives = negatives
        self.soft = soft
        self._bend = softplus if soft else torch.relu
        self.margin = margin
        self.reduction = reduction
        self._reduce = get_reduction(reduction)

    def forward(self, pairs: PairBatch, mined: Mined | None = None) -> Tensor:
        """Scalar loss; mined tuples, if given, replace the loss's own selection."""
        if isinstance(mined, Triplets):
            terms = self._given_terms(pairs, mined)
        elif self.negatives == 'all':
            terms = self._all_terms(pairs, mined)
        else:
            terms = self._hardest_terms(pairs, mined)
        return self._reduce(*terms, len(pairs.anchors))

    def _given_terms(self, pairs: PairBatch, mined: Triplets) -> tuple[Tensor, Tensor]:
        """Return ``(T,)`` hinges of the given triplets, and which of them are triplets at all."""
        anchor, positive, negative = mined
        to_positive = pairs.space.distance(pairs.similarity[anchor, positive])
        to_negative = pairs.space.distance(pairs.similarity[anchor, negative])
        valid = pairs.positive_mask[anchor, positive] & pairs.negative_mask[anchor, negative]
        return self._bend(to_positive - to_negative + self.margin) * valid, valid

    def _hardest_terms(self, pairs: PairBatch, mined: Mined | None) -> tuple[Tensor, Tensor]:
        """Return ``(A, X)`` weighted hinges of the positives, and their weights."""
        positive, negative = pairs.weights(mined)
        nearest = hardest_similarity(pairs.similarity, negative > 0)
        has_negative = nearest.detach() > float('-inf')
        positive = positive * has_negative[:, None]
        to_negative = pairs.space.distance(nearest.masked_fill(~has_negative, 0.0))
        return self._bend(pairs.distance() - (to_negative - self.margin)[:, None]) * positive, positive

    def _all_terms(self, pairs: PairBatch, mined: Mined | None) -> tuple[Tensor, Tensor]:
        """Return ``(P,)`` weighted sums over the negatives of each positive pair, and the weights in them."""
        positive, negative = pairs.weights(mined)
        distance = pairs.distance()
        found = positive_pairs(positive)
        anchor, candidate, _ = found
        to_positive = distance[anchor, candidate] + self.margin
        # Where only terms above 0 count, no others may be in the weight of a sum that is above 0.
        counts_all = self.soft or self.reduction != 'nonzero'

        def sums(block: Tensor) -> Tensor:
            row = anchor[block]
            violation = to_positive[block, None] - distance.index_select(0, row)
            weight = negative.index_select(0, row)
            number = weight if counts_all else weight * (violation > 0)
            return torch.stack([(self._bend(violation) * weight).sum(1), number.sum(1)], dim=1)

        both = in_blocks(sums, found.numbers, distance.shape[1]) * found.weight[:, None]
        return both[:, 0], both[:, 1]


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
