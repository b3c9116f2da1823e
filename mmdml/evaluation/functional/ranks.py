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
# Chunks whose scores are sorted in among the positives at a time; bounds memory.
_CHUNKS_AT_ONCE = 2**15
# To sort a score in among the positives costs as much as to compare about so many scores with one positive.
_COMPARISONS = 200
# Scores that are compared with a positive at a time; on a CPU they should fit into its cache.
_COMPARED_AT_ONCE = {'cpu': 2**17}
_COMPARED_AT_ONCE_ELSEWHERE = 2**24
# fp32 holds whole numbers up to here.
_EXACT = 2**24
FAR = float('-inf')

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
    return torch.full((rows, width), FAR, dtype=gallery.dtype, device=gallery.device)


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
    positives = scores.gather(1, answers.columns).masked_fill(~answers.relevant, FAR)
    # What is left are negatives. Padding may repeat a column: -inf is added (0 there), not written.
    zeros = torch.zeros_like(positives)
    scores.scatter_add_(1, answers.columns, zeros.masked_fill(answers.same_label, FAR))
    zeros = torch.zeros_like(answers.hidden, dtype=scores.dtype)
    scores.scatter_add_(1, answers.hidden, zeros.masked_fill(answers.is_hidden, FAR))

    depth = Depth.of(measures, int(num_relevant.max()))
    thresholds = find_thresholds(positives, tie, ties)
    maxima = chunk_maxima(scores)
    cut = find_cut(thresholds, maxima, depth)
    return to_ranks(count_ahead(scores, maxima, thresholds, cut), thresholds, cut, num_relevant)


def chunk_maxima(scores: Tensor) -> Tensor:
    """``(Q, L / CHUNK)`` largest score of each chunk."""
    return scores.unflatten(1, (-1, CHUNK)).amax(2)


def find_thresholds(positives: Tensor, tie: float | Tensor, ties: str) -> Tensor:
    """``(Q, P)`` falling: a negative that scores at least so much stands before the positive; -inf where there is none.

    nextafter: a negative exactly ``tie`` above still ties, and where ``tie`` is lost in rounding equal scores do.
    """
    positives = positives.sort(1, descending=True).values
    if ties == 'pessimistic':
        return positives - tie
    above = torch.nextafter(positives + tie, torch.full_like(positives, math.inf))
    return torch.where(positives > FAR, above, FAR)


def find_cut(thresholds: Tensor, maxima: Tensor, depth: Depth) -> Tensor:
    """``(Q,)`` score below which no negative matters: it stands behind all positives, or deeper than anybody asked."""
    none = thresholds[:, 0] == FAR
    lowest = thresholds.masked_fill(thresholds == FAR, math.inf).amin(1)
    cuts = [
        torch.maximum(threshold, _bound(maxima, deep))
        for threshold, deep in ((lowest, depth.every), (thresholds[:, 0], depth.nearest))
        if deep
    ]
    return torch.stack(cuts).amin(0).masked_fill(none, math.inf)


def _bound(maxima: Tensor, depth: float) -> Tensor:
    """``(Q,)``: at least ``depth`` negatives score so much, for as many chunks hold one that does."""
    if depth > maxima.shape[1]:
        return maxima.new_full((len(maxima),), FAR)
    return maxima.topk(int(depth), dim=1, sorted=False).values.amin(1)


def count_ahead(scores: Tensor, maxima: Tensor, thresholds: Tensor, cut: Tensor) -> Tensor:
    """``(Q, P)`` how many scores of its row reach each threshold; of no meaning for thresholds below the cut.

    Where few scores reach the cut, each is sorted in among the thresholds. Where many do, the row is compared with one
    threshold after another, which costs less for each score.
    """
    hits = maxima >= cut[:, None]
    known = (thresholds >= cut[:, None]).sum(1)
    few = known * scores.shape[1] / _COMPARISONS
    # Not all scores of a chunk need reach the cut: rows where many may are looked at.
    rows = (hits.sum(1) * CHUNK > few).nonzero().squeeze(1)
    rows = rows[_compare(scores, rows, cut[:, None], torch.ones_like(known))[:, 0] > few[rows]]
    hits[rows] = False
    counts = count_listed(thresholds, cut, _above(scores, hits, cut))
    counts[rows.to(counts.device)] = _compare(scores, rows, thresholds, known).to(counts.device)
    return counts


def _above(scores: Tensor, hits: Tensor, cut: Tensor) -> Iterator[Ahead]:
    """The scores in the chunks ``hits`` that reach the cut of their row, some at a time."""
    chunks = scores.view(-1, CHUNK)
    per_row = hits.shape[1]
    for part in hits.flatten().nonzero().squeeze(1).split(_CHUNKS_AT_ONCE):
        rows, found = part // per_row, chunks[part]
        kept = found >= cut[rows, None]
        yield Ahead(rows.repeat_interleave(kept.sum(1)), found[kept])


def _compare(scores: Tensor, rows: Tensor, thresholds: Tensor, known: Tensor) -> Tensor:
    """``(len(rows), P)`` how many scores of these rows reach each of their first ``known`` thresholds."""
    at_once = max(1, _COMPARED_AT_ONCE.get(scores.device.type, _COMPARED_AT_ONCE_ELSEWHERE) // scores.shape[1])
    counts = torch.zeros(len(rows), thresholds.shape[1], dtype=torch.int64, device=scores.device)
    reached = scores.new_empty(min(at_once, len(rows)), scores.shape[1])
    for start in range(0, len(rows), at_once):
        part, count = rows[start : start + at_once], counts[start : start + at_once]
        some, bounds = scores[part], thresholds[part]
        # Ones and zeros as floats: their sums are several times as fast as those of booleans.
        ones = reached[: len(part)]
        for place in range(int(known[part].max())):
            torch.ge(some, bounds[:, place, None], out=ones)
            count[:, place] = sum(columns.sum(1).long() for columns in ones.split(_EXACT, dim=1))
    return counts


def count_listed(thresholds: Tensor, cut: Tensor, ahead: Iterable[Ahead]) -> Tensor:
    """``(Q, P)`` how many of the listed negatives of its row reach each threshold.

    Args:
        thresholds: ``(Q, P)``, falling; the scores from which on a negative stands before a positive.
        cut: ``(Q,)``; negatives that score less are not listed, so thresholds below it get no count.
        ahead: the negatives.
    """
    # MPS has no float64.
    device = torch.device('cpu') if thresholds.device.type == 'mps' else thresholds.device
    thresholds, cut = thresholds.to(device), cut.to(device)
    rows, width = thresholds.shape
    histogram = torch.zeros(rows * width, dtype=torch.int64, device=device)
    if (thresholds >= cut[:, None]).any():
        # One axis for all rows, each with a stretch of its own, so that one search finds row and thresholds.
        numbers = torch.arange(rows, device=device)
        bounds = _places(thresholds, numbers[:, None], rows).flip(1).flatten()
        for part in ahead:
            place = _places(part.scores.to(device), part.rows.to(device), rows)
            # Each reaches at least one bound, the lowest of its row: less 1, none falls into the next row's places.
            reached = torch.bucketize(place, bounds, right=True) - 1
            histogram += torch.bincount(reached, minlength=len(histogram))
    # bounds rise within a row: who reaches the a-th reaches all before it.
    return histogram.view(rows, width).flip(1).cumsum(1)


def to_ranks(counts: Tensor, thresholds: Tensor, cut: Tensor, num_relevant: Tensor) -> Ranks:
    """Ranks of the positives, infinite where their thresholds lie below the cut.

    Args:
        counts: ``(Q, P)`` negatives before each positive.
        thresholds: ``(Q, P)``, falling.
        cut: ``(Q,)``.
        num_relevant: ``(Q,)``.
    """
    unknown = thresholds < cut[:, None]
    places = counts.cpu() + torch.arange(1, counts.shape[1] + 1)
    return Ranks(places.double().masked_fill(unknown.cpu(), math.inf), num_relevant.cpu())


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
