"""Ranks of the positives: counts of larger scores. Nothing is sorted but the positives themselves."""

import math
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from .measures import Measure, Ranks
from .relevance import Answers

#: Scores in a row that are looked at together: most such runs hold none that stands before a positive.
CHUNK = 32
# Chunks whose scores are compared with the positives' at a time; bounds memory where most stand before a positive.
_CHUNKS_AT_ONCE = 2**15
_FAR = float('-inf')

TIES = ('pessimistic', 'optimistic')

#: Device types where ``out=`` into some columns of a tensor writes elsewhere (pytorch#104832).
NO_OUT_COLUMNS = ('mps',)


class Depth(NamedTuple):
    """How deep ranks must be known (see :class:`Measure`)."""

    nearest: float
    every: float

    @classmethod
    def of(cls, measures: Iterable[Measure], largest_r: int) -> 'Depth':
        """What all measures together need, where no query has more than ``largest_r`` positives."""
        measures = list(measures)
        # At least 1, also where nobody has a positive: 0 would say that nothing is asked.
        within_r = max(largest_r, 1) if any(measure.within_r for measure in measures) else 0
        return cls(
            max(measure.nearest for measure in measures), max(within_r, *(measure.every for measure in measures))
        )


class Ahead(NamedTuple):
    """Negatives that may stand before a positive: rows of the block, never falling, and scores."""

    rows: Tensor
    scores: Tensor


def new_scores(rows: int, gallery: Tensor) -> Tensor:
    """``(rows, L)`` of -inf, to be filled by :func:`multiply`; L is the next multiple of :data:`CHUNK` from G on.

    Whole chunks, so that the last one needs no rule of its own, and one where the gallery has no row; nobody ever
    writes to the columns beyond the gallery.
    """
    width = max(-(-len(gallery) // CHUNK), 1) * CHUNK
    return torch.full((rows, width), _FAR, dtype=gallery.dtype, device=gallery.device)


def multiply(query: Tensor, gallery: Tensor, scores: Tensor) -> Tensor:
    """Products of a block of queries ``(Q, D)`` with the gallery ``(G, D)``, in the first Q rows of ``scores``.

    Returns:
        ``(Q, L)``, part of ``scores``: fresh memory would cost as much as a fifth of the product.
    """
    scores = scores[: len(query)]
    products = scores[:, : len(gallery)]
    if scores.device.type in NO_OUT_COLUMNS:
        products.copy_(query @ gallery.t())
    else:
        torch.mm(query, gallery.t(), out=products)
    return scores


def ranks_in_block(
    scores: Tensor, answers: Answers, tie: float | Tensor, ties: str, measures: Iterable[Measure]
) -> Ranks:
    """Ranks of the positives of a block of queries from its scores against the whole gallery.

    Args:
        scores: ``(Q, L)``, overwritten; L is a multiple of :data:`CHUNK`, columns beyond the gallery hold -inf.
        answers: of these queries.
        tie: scores this close tie; one for all, or ``(Q, 1)``.
        ties: 'pessimistic' or 'optimistic'.
        measures: what is computed from the ranks.
    """
    num_relevant = answers.relevant.sum(1)
    positives = scores.gather(1, answers.columns).masked_fill(~answers.relevant, _FAR)
    # What is left are negatives. Padding may repeat a column: -inf is added (0 there), not written.
    zeros = torch.zeros_like(positives)
    scores.scatter_add_(1, answers.columns, zeros.masked_fill(answers.same_label, _FAR))
    zeros = torch.zeros_like(answers.hidden, dtype=scores.dtype)
    scores.scatter_add_(1, answers.hidden, zeros.masked_fill(answers.is_hidden, _FAR))

    depth = Depth.of(measures, int(num_relevant.max()))
    thresholds = find_thresholds(positives, tie, ties)
    maxima = scores.unflatten(1, (-1, CHUNK)).amax(2)
    cut = _cut(thresholds, maxima, depth)
    return rank(thresholds, num_relevant, cut, _above(scores, maxima, cut))


def find_thresholds(positives: Tensor, tie: float | Tensor, ties: str) -> Tensor:
    """``(Q, P)`` falling: a negative that scores at least so much stands before the positive; -inf where there is none.

    nextafter: a negative exactly ``tie`` above still ties, and where ``tie`` is lost in rounding equal scores do.
    """
    positives = positives.sort(1, descending=True).values
    if ties == 'pessimistic':
        return positives - tie
    above = torch.nextafter(positives + tie, torch.full_like(positives, math.inf))
    return torch.where(positives > _FAR, above, _FAR)


def _cut(thresholds: Tensor, maxima: Tensor, depth: Depth) -> Tensor:
    """``(Q,)`` score below which no negative matters: it stands behind all positives, or deeper than anybody asked."""
    none = thresholds[:, 0] == _FAR
    lowest = thresholds.masked_fill(thresholds == _FAR, math.inf).amin(1)
    cuts = [
        torch.maximum(threshold, _bound(maxima, deep))
        for threshold, deep in ((lowest, depth.every), (thresholds[:, 0], depth.nearest))
        if deep
    ]
    return torch.stack(cuts).amin(0).masked_fill(none, math.inf)


def _bound(maxima: Tensor, depth: float) -> Tensor:
    """``(Q,)``: at least ``depth`` negatives score so much, for as many chunks hold one that does."""
    if depth > maxima.shape[1]:
        return maxima.new_full((len(maxima),), _FAR)
    return maxima.topk(int(depth), dim=1, sorted=False).values.amin(1)


def _above(scores: Tensor, maxima: Tensor, cut: Tensor) -> Iterator[Ahead]:
    """The scores that reach the cut of their row, some at a time."""
    chunks = scores.view(-1, CHUNK)
    per_row = maxima.shape[1]
    hits = (maxima >= cut[:, None]).flatten().nonzero().squeeze(1)
    for part in hits.split(_CHUNKS_AT_ONCE):
        rows, found = part // per_row, chunks[part]
        kept = found >= cut[rows, None]
        yield Ahead(rows.repeat_interleave(kept.sum(1)), found[kept])


def rank(thresholds: Tensor, num_relevant: Tensor, cut: Tensor, ahead: Iterable[Ahead]) -> Ranks:
    """Ranks from the negatives that may stand before a positive.

    Args:
        thresholds: ``(Q, P)``, falling; the scores from which on a negative stands before a positive.
        num_relevant: ``(Q,)``.
        cut: ``(Q,)``; all negatives that score at least so much are in ``ahead``, and no others.
        ahead: the negatives.
    """
    # MPS has no float64.
    device = torch.device('cpu') if thresholds.device.type == 'mps' else thresholds.device
    thresholds, cut = thresholds.to(device), cut.to(device)
    known = thresholds >= cut[:, None]
    rows, width = thresholds.shape
    histogram = torch.zeros(rows * width, dtype=torch.int64, device=device)
    if known.any():
        # One axis for all rows, each with a stretch of its own, so that one search finds row and thresholds.
        numbers = torch.arange(rows, device=device)
        bounds = _places(thresholds, numbers[:, None], rows).flip(1).flatten()
        for part in ahead:
            place = _places(part.scores.to(device), part.rows.to(device), rows)
            # Each reaches at least one bound, the lowest of its row: less 1, none falls into the next row's places.
            reached = torch.bucketize(place, bounds, right=True) - 1
            histogram += torch.bincount(reached, minlength=len(histogram))
    # bounds rise within a row: who reaches the a-th reaches all before it.
    counts = histogram.view(rows, width).flip(1).cumsum(1)
    ranks = (counts + torch.arange(1, width + 1, device=device)).double().masked_fill(~known, math.inf)
    return Ranks(ranks.cpu(), num_relevant.cpu())


def _places(scores: Tensor, rows: Tensor, number: int) -> Tensor:
    """int64 that are ordered by row (of ``number``), and within a row as the scores are, however far these are apart.

    The bits of a float, read as an integer, are in the order of the floats; a sum of row and score would be rounded as
    the largest score of all rows is. A few of the 64 bits make room for the row: fp32 keeps all of its own up to 2^27
    rows, fp64 is compared to 12 digits.
    """
    # + 0: -0 is equal to 0, but its bits are not.
    bits = (scores.double() + 0.0).view(torch.int64)
    # Of negative numbers the larger bits are the lower number.
    ordered = bits ^ ((bits >> 63) & torch.iinfo(torch.int64).max)
    shift = number.bit_length() + 1
    return (rows << (64 - shift)) + (ordered >> shift)
