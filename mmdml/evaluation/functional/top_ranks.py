"""Ranks of the positives among the highest scores of each row, where classes are large or an index has found them."""

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .close_runs import PairScores, Places, close_runs, mixed_neighbors
from .measures import Measure
from .ranks import CHUNK, FAR, PAIR_SHARE, PAIRS, Depth, Found, sort_falling
from .relevance import Relevance

# As `PAIR_SHARE`, where pairs are first compared by products in fp64.
_DOUBLE_SHARE = 1 / 8
# More scores than the depth that is needed: those that are close to the last.
SLACK = 16
# Scores that are sorted at once: few enough for a cache.
_SORTED_AT_ONCE = 2**15
_MOST = np.int32(np.iinfo(np.int32).max)
# Depths from this share of the chunks on: the highest scores are looked for, not the highest of each chunk.
_DEEP = 1 / 4


class Top(NamedTuple):
    """The highest scores of a block of queries.

    Attributes:
        scores: ``(Q, K)`` in any order.
        columns: ``(Q, K)`` gallery rows.
        lowest: ``(Q, 1)`` all scores that are not among them are at most so large; -inf: all are.
    """

    scores: Tensor
    columns: Tensor
    lowest: Tensor


def depth_in_rows(measures: Iterable[Measure], num_relevant: Tensor) -> Tensor:
    """``(Q,)`` float64: how deep ranks must be known in each row."""
    nearest, every = Depth.needed_by(measures, 0)
    within_r = any(measure.within_r for measure in measures)
    deep = torch.full(num_relevant.shape, float(max(nearest, every)), dtype=torch.float64)
    return torch.maximum(deep, num_relevant.cpu().double()) if within_r else deep


def find_number(measures: Iterable[Measure], relevance: Relevance, queries: Tensor) -> int | None:
    """Return how many of the highest scores decide the measures of some queries; None where counting is cheaper."""
    gallery = relevance.gallery_labels.numel()
    deepest = float(depth_in_rows(measures, relevance.num_relevant[queries]).max())
    number = deepest + int(relevance.num_hidden[queries].max()) + SLACK
    return int(number) if deepest > _DEEP * gallery / CHUNK and number < gallery / 2 else None


def ranks_by_top(
    scores: Tensor,
    number: int,
    queries: Tensor,
    relevance: Relevance,
    window: Tensor,
    measures: Iterable[Measure],
    pairs: PairScores | None,
) -> Found:
    """Ranks of the positives of a block of queries from the ``number`` highest of ``scores (Q, L)``, or more if needed.

    The other arguments are those of :func:`ranks_in_top`.
    """
    gallery = relevance.gallery_labels.numel()
    depth = depth_in_rows(measures, relevance.num_relevant[queries])
    found, complete = ranks_in_top(find_top(scores, gallery, number), queries, relevance, window, depth, pairs)
    rows = (~complete & ~found.unsettled).nonzero().squeeze(1)
    if len(rows):
        # Too many equal or close scores at the depth that is needed.
        here = rows.to(scores.device)
        top = find_top(scores[here], gallery, gallery)
        chosen = None if pairs is None else pairs.of(here)
        more, _ = ranks_in_top(top, queries[here], relevance, window[here], depth[rows], chosen)
        found = found.replaced(rows, more)
    return found


def find_top(scores: Tensor, gallery: int, number: int) -> Top:
    """Return the ``number`` highest of each row of ``scores (Q, L)``, of which the first ``gallery`` are rows."""
    scores = scores[:, :gallery]
    if number >= gallery:
        columns = torch.arange(gallery, device=scores.device).expand(len(scores), -1)
        return Top(scores, columns, scores.new_full((len(scores), 1), FAR))
    if scores.device.type == 'cpu':
        columns, lowest = np.empty((len(scores), number), np.int64), np.empty((len(scores), 1), scores.numpy().dtype)
        # Row by row: to partition values is much cheaper than to partition places.
        for place, row in enumerate(scores.numpy()):
            lowest[place] = np.partition(row, gallery - number)[gallery - number]
            found = np.flatnonzero(row >= lowest[place])
            if len(found) > number:
                found = np.concatenate([np.flatnonzero(row > lowest[place]), np.flatnonzero(row == lowest[place])])
            columns[place] = found[:number]
        columns = torch.from_numpy(columns)
        return Top(scores.gather(1, columns), columns, torch.from_numpy(lowest))
    # In any order: they are sorted once, when it is known which of them count.
    found, columns = scores.topk(number, dim=1, sorted=False)
    return Top(found, columns, found.amin(1, keepdim=True))


def ranks_in_top(
    top: Top, queries: Tensor, relevance: Relevance, window: Tensor, depth: Tensor, pairs: PairScores | None
) -> tuple[Found, Tensor]:
    """Ranks of the positives of a block of queries, as far as the highest scores show them.

    Scores that are closer than ``window`` are put in the order of the exact scores of their pairs, where both positives
    and negatives are among them.

    Args:
        top: their highest scores.
        queries: ``(Q,)`` their numbers.
        relevance: which gallery rows are positives.
        window: ``(Q, 1)``; scores that differ by more are in their exact order.
        depth: ``(Q,)``, from :func:`depth_in_rows`.
        pairs: scores of pairs; None where the scores are exact, so that equal ones tie.

    Returns:
        Ranks, infinite below the depth, and ``(Q,)`` bool, which rows show all of them.
    """
    same_label, counts = _compare(relevance, queries, top.columns)
    scores, columns, positive = _sort(top.scores.masked_fill(~counts, FAR), top.columns, same_label & counts)
    depth = depth.to(scores.device, torch.float64 if scores.device.type != 'mps' else torch.float32)
    last = depth.clamp_max(scores.shape[1]).long().clamp_min(1) - 1
    at_depth = scores.gather(1, last[:, None]).masked_fill((depth > scores.shape[1])[:, None], FAR)
    # Whoever is not among the scores stands surely behind all that may be within the depth.
    complete = (top.lowest == FAR) | (top.lowest < at_depth - 2 * window)

    unsettled = torch.zeros(len(scores), dtype=torch.bool, device=scores.device)
    ahead = behind = positive
    mixed = mixed_neighbors(scores, positive, window, at_depth)
    rows = mixed.any(1).nonzero().squeeze(1)
    if len(rows):
        inside = close_runs(scores[rows], mixed[rows], window[rows])
        if pairs is not None:
            share = PAIR_SHARE if pairs.in_double is None else _DOUBLE_SHARE
            many = inside.sum(1) > share * relevance.gallery_labels.numel() + PAIRS
            unsettled[rows[many]] = True
            rows, inside = rows[~many], inside[~many]
        if len(rows) and pairs is not None and pairs.in_double is not None:
            chosen = Places(rows, inside, positive)
            values = chosen.lay_out(pairs.in_double(*chosen.pairs(columns)))
            ahead, close = chosen.reorder(positive, values, pairs.window[rows])
            behind, rows, inside = ahead, rows[close], inside[close]
        if len(rows):
            chosen = Places(rows, inside, positive)
            row, column = chosen.pairs(columns)
            found = scores[row, chosen.place] if pairs is None else pairs.exact(row, column).to(row.device)
            behind, ahead = chosen.reorder_with_ties(ahead, chosen.lay_out(found))
    valid = scores > FAR
    ranks = [_places(flags & valid, depth) for flags in ((behind, ahead) if behind is not ahead else (behind,))]
    return Found(ranks[0], ranks[-1], unsettled.cpu()), complete[:, 0].cpu()


def _compare(relevance: Relevance, queries: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
    """Return for pairs ``(q, K)`` of queries and gallery rows whether labels agree and whether the pair counts."""
    same_label = relevance.gallery_labels[columns] == relevance.query_labels[queries, None]
    counts = torch.ones_like(same_label)
    if relevance.ids is not None:
        counts &= relevance.ids[1][columns] != relevance.ids[0][queries, None]
    if relevance.groups is not None:
        counts &= ~same_label | (relevance.groups[1][columns] != relevance.groups[0][queries, None])
    return same_label, counts


def _sort(scores: Tensor, columns: Tensor, positive: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """All three by falling scores."""
    if scores.device.type != 'cpu' or scores.dtype != torch.float32:
        scores, order = sort_falling(scores)
        return scores, columns.gather(1, order), positive.gather(1, order)
    # One sort of whole numbers: the bits of a float are in its order, from the highest down for negative numbers.
    sides = (scores + 0.0).numpy().view(np.int32), columns.numpy(), positive.numpy()
    found = tuple(np.empty_like(side, order='C') for side in sides)
    at_once = max(1, _SORTED_AT_ONCE // scores.shape[1])
    for start in range(0, len(scores), at_once):
        own = slice(start, start + at_once)
        bits, places, flags = (side[own] for side in sides)
        packed = (~(bits ^ ((bits >> 31) & _MOST))).astype(np.int64)
        packed <<= 32
        packed |= places << 1
        packed |= flags
        packed.sort(axis=1)
        bits = ~(packed >> 32).astype(np.int32)
        found[0][own] = bits ^ ((bits >> 31) & _MOST)
        packed &= 0xFFFFFFFF
        found[2][own] = packed & 1
        found[1][own] = packed >> 1
    return torch.from_numpy(found[0].view(np.float32)), torch.from_numpy(found[1]), torch.from_numpy(found[2])


def _places(positive: Tensor, depth: Tensor) -> Tensor:
    """``(Q, P)`` ranks of the flagged places, infinite below the depth and for padding."""
    positive = positive.cpu().numpy()
    count = positive.sum(1)
    ranks = np.full((len(positive), max(int(count.max()), 1)), math.inf)
    flat = np.flatnonzero(positive)
    # Both are filled row by row.
    ranks[np.arange(ranks.shape[1]) < count[:, None]] = (
        flat + 1 - np.repeat(positive.shape[1] * np.arange(len(count)), count)
    )
    ranks[ranks > depth[:, None].cpu().numpy()] = math.inf
    return torch.from_numpy(ranks)
