"""Distance-weighted sampling."""

import torch
from torch import Tensor

from mmdml.registry import TASK_UTILS
from mmdml.structures import PairBatch, Space, Triplets
from mmdml.structures.checks import check_numbers
from mmdml.utils.numbers import check_counts

from .base import Miner

FALLBACKS = ('skip', 'uniform')


def log_inverse_density(distance: Tensor, dim: int | Tensor) -> Tensor:
    r"""Logarithm of 1 / q, up to a constant, q being the density of distances on the unit sphere.

    Wu et al., ICCV 2017, Sec. 4: between points that are uniform on the sphere in :math:`R^n`, distances have
    :math:`q(D) \propto D^{n-2} (1 - D^2/4)^{(n-3)/2}`.

    Args:
        distance: Euclidean distances in (0, 2), any shape.
        dim: n, a number or a scalar tensor.

    Returns:
        :math:`(2 - n) \ln D - \frac{n-3}{2} \ln(1 - D^2/4)`, same shape.
    """
    return (2 - dim) * distance.log() - (dim - 3) / 2 * torch.log1p(-(distance**2) / 4)


def draw_without_replacement(
    log_weight: Tensor, number: int, random: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """Draw columns of every row, one after the other, in proportion to the weights of those that are left.

    The largest of the log-weights plus Gumbel noise are such a draw; no weight is ever exponentiated.

    Args:
        log_weight: ``(A, X)``; -inf is never drawn.
        number: draws M per row, at most X.
        random: what to draw from. Default: torch's global generator.

    Returns:
        ``(A, M)`` columns in the order of the draws, and ``(A, M)`` bool: False where a row had nothing left to draw.
    """
    # Minus the logarithm of an exponential variable is a Gumbel one. The bound turns a possible 0 into a finite value.
    exponential = (
        torch.empty_like(log_weight).exponential_(generator=random).clamp_min(torch.finfo(log_weight.dtype).tiny)
    )
    top = (log_weight - exponential.log()).topk(number, dim=1)
    return top.indices, top.values > float('-inf')


@TASK_UTILS.register_module()
class DistanceWeightedMiner(Miner):
    r"""Negatives drawn so that their distances spread evenly, one for every positive.

    Wu et al., ICCV 2017, Sec. 4; the sampling of Sanakoyeu et al., TPAMI 2021. A negative n of anchor a has

    .. math:: w_{an} \propto 1 / q(\max(D_{an}, \lambda)) \text{ if } D_{an} < u, \text{ else exactly } 0

    with q as in :func:`log_inverse_density`; the anchor itself, its class and excluded pairs have weight 0, too. All
    draws happen in log space, so no dimension over- or underflows.

    Every anchor with a positive gets as many negatives as anchors have positives on average (rounded, at least 1),
    without replacement, and fewer only where it has fewer to draw from. Positives are put beside them in random
    order: repeated at random if there are too few, sub-sampled if there are too many.

    Draws come from ``pairs.random``, which the head seeds from (run seed, iteration), so that ranks which share their
    rows draw alike.

    Args:
        lower: :math:`\lambda`: negatives nearer than this are drawn as if they were this far, in (0, 2).
        upper: u: negatives this far and farther have no loss and are never drawn, in (lower, 2].
        dim: n in q. Default: the width of the compared vectors; columns that are 0 in all of them, which a mask has cut
            off, do not count.
        fallback: what an anchor does all of whose negatives are at ``upper`` or beyond. 'uniform', as in the code of
            Wu et al., draws among all of them, so that the anchor's positives keep their loss; 'skip' gives no
            triplet.

    Raises:
        ValueError: if a setting is no number; if ``lower`` and ``upper`` are out of range, ``dim`` is below 2 or
            ``fallback`` is unknown; when mining, if the pairs have another space than cosine.

    Config::

        miner=dict(type='DistanceWeightedMiner', lower=0.5, upper=1.4)
    """

    def __init__(
        self, lower: float = 0.5, upper: float = 1.4, dim: int | None = None, fallback: str = 'uniform'
    ) -> None:
        check_numbers(lower=lower, upper=upper)
        if not 0 < lower < upper <= 2:
            raise ValueError(f'distances must be 0 < lower < upper <= 2, got lower={lower} and upper={upper}')
        if dim is not None:
            check_counts(2, dim=dim)
        if fallback not in FALLBACKS:
            raise ValueError(f'fallback must be one of {FALLBACKS}, got {fallback!r}')
        self.lower = lower
        self.upper = upper
        self.dim = dim
        self.fallback = fallback

    def __call__(self, pairs: PairBatch) -> Triplets:
        """Triplets, index tensors ``(T,)``."""
        log_weight = self.log_weights(pairs)
        positives = pairs.positive_mask
        anchor = (positives.any(1) & (log_weight > float('-inf')).any(1)).nonzero().squeeze(1)
        if len(anchor) == 0:
            return Triplets.none(anchor.device)
        number = max(1, round(int(positives.sum()) / len(positives)))
        negative, drawn = draw_without_replacement(log_weight[anchor], number, pairs.random)
        positive = _draw_positives(positives[anchor], number, pairs.random)
        row, place = drawn.nonzero(as_tuple=True)
        return Triplets(anchor[row], positive[row, place], negative[row, place])

    def log_weights(self, pairs: PairBatch) -> Tensor:
        """Compute logarithms of the weights, ``(A, X)``, up to a constant; -inf where a candidate cannot be drawn.

        Raises:
            ValueError: if the pairs have another space than cosine.
        """
        if type(pairs.space) is not Space:
            raise ValueError(
                'DistanceWeightedMiner draws by the density of distances on the unit sphere and cannot use '
                f'{type(pairs.space).__name__}'
            )
        distance = pairs.distance(eps=0).clamp_min(self.lower)
        admissible = pairs.negative_mask & (distance < self.upper)
        # A tensor: counting the columns must not wait for the accelerator.
        dim = (pairs.candidates.embeddings != 0).any(0).sum().clamp_min(2) if self.dim is None else self.dim
        log_weight = log_inverse_density(distance, dim).masked_fill(~admissible, float('-inf'))
        if self.fallback == 'uniform':
            stranded = pairs.negative_mask & ~admissible.any(1, keepdim=True)
            log_weight = log_weight.masked_fill(stranded, 0.0)
        return log_weight


def _draw_positives(positives: Tensor, number: int, random: torch.Generator | None) -> Tensor:
    """Draw ``(A, M)`` columns: all of a row's positives before any is repeated. Every row of ``(A, X)`` has one."""
    equal = torch.zeros_like(positives, dtype=torch.float32).masked_fill(~positives, float('-inf'))
    column, drawn = draw_without_replacement(equal, number, random)
    have = drawn.sum(1, keepdim=True)
    again = (torch.rand(column.shape, device=column.device, generator=random) * have).long().clamp_max(have - 1)
    slot = torch.arange(number, device=column.device).expand_as(column)
    return column.gather(1, torch.where(drawn, slot, again))
