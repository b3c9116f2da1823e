"""How many scores of a row reach bounds: by sorting the few that may in among the bounds, or by comparing all."""

import math
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from .row_search import nonzero, rows_reaching

#: Scores in a row that are looked at together: most such runs hold none that stands before a positive.
CHUNK = 32
# Chunks whose scores are sorted in among the positives at a time; bounds memory.
_CHUNKS_AT_ONCE = 2**15
# To sort a score in among the positives costs as much as to compare about so many scores with one positive.
_COMPARISONS = 200


def count_reaching(scores: Tensor, maxima: Tensor, low: Tensor, high: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """``(Q, P)`` how many scores of its row reach ``high``, and ``low``; of no meaning where not known.

    Where few scores reach the lowest, each is sorted in among the positives. Where many do, the row is compared with
    one positive after another, or sorted.
    """
    cut = low.masked_fill(~known, math.inf).amin(1, keepdim=True)
    hits = maxima >= cut
    number = known.sum(1)
    few = number * scores.shape[1] / _COMPARISONS
    # Not all scores of a chunk need reach the cut: rows where many may are looked at.
    rows = (hits.sum(1) * CHUNK > few).nonzero().squeeze(1)
    if len(rows):
        reaching = rows_reaching(scores, rows, cut[rows], cut[rows], torch.ones_like(rows))[0]
        rows = rows[reaching[:, 0] > few[rows]]
    hits[rows] = False
    counts = _count_listed(low, high, _above(scores, hits, cut))
    if len(rows):
        width = int(number[rows].max())
        for found, compared in zip(
            counts, rows_reaching(scores, rows, low[rows, :width], high[rows, :width], number[rows]), strict=True
        ):
            found[rows, :width] = compared
    return counts


def _above(scores: Tensor, hits: Tensor, cut: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Rows and scores in the chunks ``hits`` that reach the cut of their row, some at a time."""
    chunks = scores.view(-1, CHUNK)
    per_row = hits.shape[1]
    for part in nonzero(hits.flatten()).split(_CHUNKS_AT_ONCE):
        rows, found = part // per_row, chunks[part]
        kept = found >= cut[rows]
        yield rows.repeat_interleave(kept.sum(1)), found[kept]


def _count_listed(low: Tensor, high: Tensor, ahead: Iterable[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """``(Q, P)`` how many of the listed scores of its row reach each of ``high``, and of ``low``, which fall."""
    number, width = low.shape
    histograms = [torch.zeros(number * width, dtype=torch.int64, device=low.device) for _ in range(2)]
    bounds = [values.flip(1) for values in (high, low)]
    own = torch.arange(number, device=low.device)
    for rows, scores in ahead:
        for histogram, values in zip(histograms, bounds, strict=True):
            # One axis for all rows, each with a stretch of its own, so that one search finds row and positive.
            axis, places = _on_one_axis((own[:, None].expand_as(values), values), (rows, scores))
            reached = torch.bucketize(places, axis, right=True) - 1
            reached = reached[reached >= rows * width]
            histogram += torch.bincount(reached, minlength=len(histogram))
    # bounds rise within a row: who reaches the a-th reaches all before it.
    certain, possible = (histogram.view(number, width).flip(1).cumsum(1) for histogram in histograms)
    return certain, possible


def _on_one_axis(*sides: tuple[Tensor, Tensor]) -> list[Tensor]:
    """int64 for each side of rows and values, flat: ordered by row, and within a row as the values are."""
    rows, values = (torch.cat([side[i].flatten() for side in sides]) for i in range(2))
    if values.dtype == torch.float32:
        # The bits of a float are in its order, from the lowest up for positive numbers. + 0: -0 is equal to 0.
        bits = (values + 0.0).view(torch.int32)
        order = (bits ^ ((bits >> 31) & torch.iinfo(torch.int32).max)).long()
    else:
        order = torch.unique(values + 0.0, return_inverse=True)[1]
    return list(((rows << 32) + order).split([side[1].numel() for side in sides]))
