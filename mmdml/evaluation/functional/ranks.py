"""Ranks of the positives: counts of larger scores. Nothing is sorted but the positives, and what may stand before."""

import math
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .measures import Measure
from .relevance import Matches
from .windows import find_within

# A row with more close pairs than this share of the gallery, and so many more, is left to a search in fp64.
PAIR_SHARE, PAIRS = 1 / 32, 64
FAR = float('-inf')
#: Scores in a row that are looked at together: most such chunks hold none that stands before a positive.
CHUNK = 32
# Rows with like numbers of such chunks that are sorted at once.
_ROWS_AT_ONCE = 128

TIES = ('pessimistic', 'optimistic')

#: Rows of a block, rising, and gallery columns ``(n,)`` -> scores ``(n,)`` in fp64.
Scores = Callable[[Tensor, Tensor], Tensor]


class Depth(NamedTuple):
    """How deep ranks must be known (see :class:`Measure`)."""

    nearest: float
    every: float

    @classmethod
    def needed_by(cls, measures: Iterable[Measure], largest_r: int) -> 'Depth':
        """Return what all measures together need, where no query has more than ``largest_r`` positives."""
        measures = list(measures)
        # At least 1, also where no query has a positive: 0 would mean that no rank is needed.
        within_r = max(largest_r, 1) if any(measure.within_r for measure in measures) else 0
        return cls(
            max(measure.nearest for measure in measures), max(within_r, *(measure.every for measure in measures))
        )


class Found(NamedTuple):
    """Ranks by both rules on ties, on the CPU; one tensor twice where nothing ties.

    Attributes:
        pessimistic: ``(Q, P)`` float64, rising, inf where unknown or too deep; negatives first among equal scores.
        optimistic: the same with positives first.
        unsettled: ``(Q,)`` bool, rows with too many close pairs, whose ranks mean nothing.
    """

    pessimistic: Tensor
    optimistic: Tensor
    unsettled: Tensor

    def replaced(self, rows: Tensor, other: 'Found') -> 'Found':
        """Return the same with the given rows ``(r,)`` as ``other`` has them."""
        unsettled = self.unsettled.clone()
        unsettled[rows] = other.unsettled
        width = max(self.pessimistic.shape[1], other.pessimistic.shape[1])
        ranks = []
        for own, new in zip(self[:2], other[:2], strict=True):
            own = torch.nn.functional.pad(own, (0, width - own.shape[1]), value=math.inf).clone()
            own[rows] = torch.nn.functional.pad(new, (0, width - new.shape[1]), value=math.inf)
            ranks.append(own)
        return Found(*ranks, unsettled)


class OneProcess:
    """The whole gallery is here; a subclass puts together what several processes find in their parts."""

    def merge(self, scores: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
        """Positives of all parts side by side; -1 for the columns of other parts."""
        return scores, columns

    def largest(self, values: Tensor) -> Tensor:
        """Return the maximum over all parts, entry by entry."""
        return values

    def sum(self, values: Tensor) -> Tensor:
        """Return the sum over all parts, entry by entry."""
        return values


def new_scores(rows: int, gallery: Tensor) -> Tensor:
    """``(rows, L)`` of -inf, to be filled by products; L is the next multiple of :data:`CHUNK` from G on.

    Whole chunks, so that the last one needs no rule of its own, and one where the gallery has no row.
    """
    width = max(-(-len(gallery) // CHUNK), 1) * CHUNK
    return torch.full((rows, width), FAR, dtype=gallery.dtype, device=gallery.device)


def ranks_by_counting(
    scores: Tensor,
    matches: Matches,
    window: Tensor,
    measures: Iterable[Measure],
    exact: Scores | None,
    parts: OneProcess | None = None,
) -> Found:
    """Ranks of the positives of a block of queries: negatives that surely stand before, and close ones by exact scores.

    Args:
        scores: ``(Q, L)`` of the part of the gallery that is here, overwritten; L is a multiple of :data:`CHUNK`,
            columns beyond the gallery hold -inf.
        matches: of these queries, in that part.
        window: ``(Q, 1)``; scores that differ by more are in their exact order.
        measures: what is computed from the ranks.
        exact: scores of pairs that decide; None where ``scores`` are exact, so that equal ones tie.
        parts: puts the parts of the gallery together. Default: all of it is here.
    """
    parts = parts or OneProcess()
    positives, columns = _take_positives(scores, matches, parts)
    maxima = scores.unflatten(1, (-1, CHUNK)).amax(2)
    depth = Depth.needed_by(measures, int((positives > FAR).sum(1).max()))
    known = _find_known(positives, maxima, window, depth, parts)
    # From `low` on a negative may stand before the positive, from `high` on it surely does.
    low = positives - window
    high = torch.nextafter(positives + window, torch.full_like(positives, math.inf))
    possible, certain = count_reaching(scores, maxima, known, (low, high))
    close, certain = parts.sum(possible - certain), parts.sum(certain)
    if exact is None:
        return _to_found(certain + close, certain, known, torch.zeros_like(known[:, 0]))

    gallery = int(parts.sum(torch.tensor(scores.shape[1])))
    unsettled = close.sum(1) > PAIR_SHARE * gallery + PAIRS
    before, ahead = certain, certain
    rows, places = ((close > 0) & ~unsettled[:, None]).nonzero().unbind(1)
    if len(rows):
        own = columns[rows, places]
        here = own >= 0
        nearness = torch.full(rows.shape, FAR, dtype=torch.float64, device=rows.device)
        nearness[here] = exact(rows[here], own[here]).to(rows.device)
        nearness = parts.largest(nearness)
        numbers, negatives = find_within(scores, rows, low[rows, places], high[rows, places])
        others = exact(rows[numbers], negatives).to(rows.device)
        before, ahead = certain.clone(), certain.clone()
        for counts, is_before in ((before, others >= nearness[numbers]), (ahead, others > nearness[numbers])):
            found = torch.zeros_like(rows).index_add_(0, numbers, is_before.long())
            counts[rows, places] += parts.sum(found)
    return _to_found(before, ahead, known, unsettled)


def _take_positives(scores: Tensor, matches: Matches, parts: OneProcess) -> tuple[Tensor, Tensor]:
    """``(Q, P)`` scores of the positives, falling, and their columns; ``scores`` keeps the negatives alone."""
    positives = scores.gather(1, matches.columns).masked_fill(~matches.relevant, FAR)
    for columns, used in ((matches.columns, matches.same_label), (matches.hidden, matches.is_hidden)):
        # Padding may repeat a column: -inf is added (0 there), not written.
        taken = torch.zeros_like(columns, dtype=scores.dtype).masked_fill(used, FAR)
        scores.scatter_add_(1, columns, taken)
    positives, columns = parts.merge(positives, matches.columns)
    # Stable: all processes must have one order.
    positives, order = sort_falling(positives, stable=type(parts) is not OneProcess)
    return positives, columns.gather(1, order)


def _find_known(positives: Tensor, maxima: Tensor, window: Tensor, depth: Depth, parts: OneProcess) -> Tensor:
    """``(Q, P)`` bool: the positives that may stand as deep as is needed; the first of each row, as they fall."""
    known = torch.zeros_like(positives, dtype=torch.bool)
    if depth.every:
        known |= positives >= _bound(maxima, depth.every, parts) - window
    if depth.nearest:
        # Exact scores may say that another than the first is the nearest.
        near = positives >= positives[:, :1] - window
        known |= near & (positives >= _bound(maxima, depth.nearest, parts) - window)
    return known & (positives > FAR)


def _bound(maxima: Tensor, depth: float, parts: OneProcess) -> Tensor:
    """``(Q, 1)``: at least ``depth`` negatives score so much, for as many chunks hold one that does."""
    if depth > maxima.shape[1]:
        bound = maxima.new_full((len(maxima), 1), FAR)
    else:
        bound = maxima.topk(int(depth), dim=1, sorted=False).values.amin(1, keepdim=True)
    return parts.largest(bound)


def sort_falling(values: Tensor, stable: bool = False) -> tuple[Tensor, Tensor]:
    """``(Q, P)`` sorted rows, and the places they were at; stable: equal values stay in order."""
    if values.device.type != 'cpu':
        return values.sort(dim=1, descending=True, stable=stable)
    order = torch.from_numpy(np.argsort(-values.numpy(), axis=1, kind='stable' if stable else None))
    return values.gather(1, order), order


def count_reaching(
    scores: Tensor, maxima: Tensor, known: Tensor, bounds: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    """How many scores of its row reach each bound: the chunks that hold such scores are sorted.

    Args:
        scores: ``(Q, L)``.
        maxima: ``(Q, L / CHUNK)`` of their chunks.
        known: ``(Q, P)`` bool, which bounds matter, the first of each row.
        bounds: the lower and the higher ``(Q, P)``.

    Returns:
        ``(Q, P)`` int64 for the lower and the higher bounds; 0 for those that do not matter.
    """
    chunks = scores.unflatten(1, (-1, CHUNK))
    counts = tuple(torch.zeros(known.shape, dtype=torch.int64, device=known.device) for _ in bounds)
    cut = bounds[0].masked_fill(~known, float('inf')).amin(1, keepdim=True)
    hits = (maxima >= cut).sum(1)
    hit, order = hits.sort()
    first = int((hit == 0).sum())
    for start in range(first, len(order), _ROWS_AT_ONCE):
        rows = order[start : start + _ROWS_AT_ONCE]
        number, width = int(hits[rows[-1]]), int(known[rows].sum(1).max())
        if number < maxima.shape[1] / 2:
            highest = maxima[rows].topk(number, dim=1, sorted=False).indices
            values = chunks[rows[:, None], highest].flatten(1)
        else:
            values = scores[rows]
        values = torch.from_numpy(np.sort(values.numpy(), axis=1)) if values.device.type == 'cpu' else values.sort(1)[0]
        for count, bound in zip(counts, bounds, strict=True):
            below = torch.searchsorted(values, bound[rows, :width].contiguous())
            count[rows, :width] = (values.shape[1] - below).masked_fill(~known[rows, :width], 0)
    return counts


def _to_found(before: Tensor, ahead: Tensor, known: Tensor, unsettled: Tensor) -> Found:
    """Ranks from ``(Q, P)`` counts of the negatives that are equal or nearer, and of those that are nearer."""
    known, ranks = known.cpu(), []
    for counts in (before, ahead) if bool((before != ahead).any()) else (before,):
        # Positives at close scores may be in another order than these; counts rise in the exact one.
        counts = sort_falling(-counts.cpu().double().masked_fill(~known, math.inf))[0].neg_()
        ranks.append(counts + torch.arange(1, counts.shape[1] + 1))
    return Found(ranks[0], ranks[-1], unsettled.cpu())
