"""Matryoshka representation learning: a loss on prefixes of the embedding."""

from torch import Tensor, nn

from mmdml.registry import MODELS
from mmdml.structures import Mined, PairBatch, Rows
from mmdml.structures.rows import unit_length
from mmdml.utils.numbers import are_numbers

from .base import Loss, PairLoss
from .checks import check_cosine_space
from .widths import at_width


@MODELS.register_module()
class MatryoshkaLoss(PairLoss):
    r"""A loss on the whole embedding and on its first columns, so that a prefix is an embedding of its own.

    Kusupati et al., *Matryoshka Representation Learning*, NeurIPS 2022, equation 1, with a metric-learning loss in
    place of the classifiers. For several widths d, with the first d columns of each row brought to length 1,

    .. math:: L = \sum_d w_d \, \ell\big(z_{1:d} / \lVert z_{1:d} \rVert\big)

    Labels, identities, targets and mined tuples are those of the whole embedding. A loss with parameters exists once
    per width, so a class-based one has proxies for each, as the classifiers of the paper. Inside slices the prefixes
    are those of a slice, for losses over pairs.

    Args:
        loss: config of a loss; a class-based one with the width of the whole embedding, in ``embed_dim`` or, of
            pytorch-metric-learning, ``embedding_size``. Default: ``MultiSimilarityLoss``.
        shares: widths as shares of the embedding's, each in (0, 1], rounded to columns, at least 1.
        weights: w_d >= 0, one for each share. Default: 1 each.

    Raises:
        TypeError: if ``loss`` is no loss.
        ValueError: for no share, one out of range, or weights that do not fit; in the forward pass, for another space
            than cosine.

    Config::

        loss=dict(type='MatryoshkaLoss', loss=dict(type='MultiSimilarityLoss'), shares=(1, 0.5, 0.25, 0.125))
    """

    def __init__(
        self,
        loss: dict | None = None,
        shares: tuple[float, ...] = (1.0, 0.5, 0.25, 0.125),
        weights: tuple[float, ...] | None = None,
    ) -> None:
        super().__init__()
        if not are_numbers(shares, 1) or not all(0 < share <= 1 for share in shares):
            raise ValueError(f'shares must be in (0, 1], and at least one, got {shares}')
        weights = (1.0,) * len(shares) if weights is None else weights
        if not are_numbers(weights) or len(weights) != len(shares) or min(weights) < 0:
            raise ValueError(f'weights must be >= 0, one for each of the {len(shares)} shares, got {weights}')
        loss = loss or dict(type='MultiSimilarityLoss')
        self.losses = nn.ModuleList(
            MODELS.build(at_width(loss, lambda width, share=share: _columns(width, share))) for share in shares
        )
        if not isinstance(self.losses[0], Loss):
            raise TypeError(f'MatryoshkaLoss takes a loss, got {type(self.losses[0]).__name__}')
        self.soft_targets = self.losses[0].soft_targets
        self.shares = shares
        self.weights = weights

    @property
    def unsigned_parameters(self) -> tuple[str, ...]:
        """Parameters of which only the absolute value counts: those of the loss inside, at every width."""
        names = getattr(self.losses[0], 'unsigned_parameters', ())
        return tuple(f'losses.{place}.{name}' for place in range(len(self.losses)) for name in names)

    def check_targets(self, pairs: PairBatch) -> None:
        """Refuse what the loss inside refuses."""
        self.losses[0].check_targets(pairs)

    def forward(self, pairs: PairBatch, mined: Mined | None = None) -> Tensor:
        """Scalar loss, summed over the widths."""
        check_cosine_space(pairs, 'MatryoshkaLoss')
        width = pairs.candidates.width
        total = 0
        for loss, share, weight in zip(self.losses, self.shares, self.weights, strict=True):
            total = total + weight * loss(_prefix(pairs, _columns(width, share)), mined)
        return total


def _columns(width: int, share: float) -> int:
    return max(1, round(width * share))


def _prefix(pairs: PairBatch, columns: int) -> PairBatch:
    """Return the same pairs by the first columns of their rows."""
    if columns == pairs.candidates.width:
        return pairs
    anchors, candidates = (_unit_prefix(rows, columns) for rows in (pairs.anchors, pairs.candidates))
    targets = pairs.targets if pairs.has_own_targets else None
    return PairBatch(anchors, candidates, pairs.exclude_same_image, pairs.random, pairs.space, targets)


def _unit_prefix(rows: Rows, columns: int) -> Rows:
    return rows.by_parts(lambda part: unit_length(part[:, :columns]))
