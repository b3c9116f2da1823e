"""Ranks of the positives by matrix products: the search that serves every case."""

from collections.abc import Iterable
from functools import cached_property, partial

import torch
from torch import Tensor

from mmdml.functional.space import Space

from .counting import CHUNK
from .measures import Measure
from .ranks import Found, OneProcess, PairScores, multiply, new_scores, ranks_by_counting
from .relevance import Answers, Relevance
from .top_ranks import SLACK, depth_in_rows, find_top, ranks_in_top

# Depths from this share of the chunks on: the highest scores are looked for, not the highest of each chunk.
_DEEP = 1 / 4
# Rows with many close pairs are scored again in fp64, so large a share of a block at a time.
ROWS_AGAIN = 1 / 4


class MatrixSearch:
    """Ranks of the positives from matrix products, on any device.

    Products find what may stand before a positive; pairs of scores that are closer than their rounding
    (:class:`~mmdml.functional.spaces.Space`) are compared by exact scores. Rows with many such pairs are scored again
    by products in fp64, and if there are still many, by exact scores throughout.

    Args:
        space: of the gallery, or of the part that is here.
        relevance: of all queries in that gallery; None if it has no rows.
        measures: what is computed from the ranks.
        rows: most queries at a time.
        parts: puts the parts of the gallery together. Default: all of it is here.

    Attributes:
        any_order: whether the queries of a block may be any.
    """

    any_order = True

    def __init__(
        self,
        space: Space,
        relevance: Relevance | None,
        measures: Iterable[Measure],
        rows: int,
        parts: OneProcess | None = None,
    ) -> None:
        self.space = space
        self.relevance = relevance
        self.measures = list(measures)
        self.rows = rows
        self.parts = parts

    @cached_property
    def buffer(self) -> Tensor:
        """Scores of a block."""
        return new_scores(self.rows, self.space.gallery)

    def ranks(self, given: Tensor, queries: Tensor) -> Found:
        """Ranks of the positives of some queries.

        Args:
            given: ``(Q, D)`` their embeddings.
            queries: ``(Q,)`` their numbers.
        """
        block = self.space.queries(given)
        scores = multiply(block.rows, self.space.gallery, self.buffer)
        found = self._rank(scores, block.window, queries, self._pairs(given))
        again = [self._in_double] * _doubles(given) + [self._exactly]
        for score in again:
            rows = found.unsettled.nonzero().squeeze(1)
            for part in rows.split(max(1, int(self.rows * ROWS_AGAIN))) if len(rows) else ():
                here = part.to(given.device)
                found = found.replaced(part, score(given[here], queries[here]))
        return found

    def _pairs(self, given: Tensor) -> PairScores:
        exact = partial(self.space.pairs, given)
        if not _doubles(given):
            return PairScores(exact)
        directions, window = self.space.directions(given)
        return PairScores(exact, partial(self.space.double_pairs, directions), window)

    def _in_double(self, given: Tensor, queries: Tensor) -> Found:
        """Return the same from products in fp64."""
        directions, window = self.space.directions(given)
        scores = new_scores(len(given), self.space.gallery).double()
        self.space.double_scores(directions, scores)
        return self._rank(scores, window, queries, PairScores(partial(self.space.pairs, given)))

    def _exactly(self, given: Tensor, queries: Tensor) -> Found:
        """Return the same from the exact scores of all pairs; equal gallery rows are scored once."""
        distinct, copies = self.space.distinct_rows
        scores = new_scores(len(given), self.space.gallery).double()
        if given.device.type == 'mps':
            scores, copies = scores.cpu(), copies.cpu()
        for place in range(len(given)):
            rows = torch.full_like(distinct, place)
            scores[place, : len(copies)] = self.space.pairs(given, rows, distinct)[copies]
        return self._rank(scores, torch.zeros_like(scores[:, :1]), queries, None)

    def _rank(self, scores: Tensor, window: Tensor, queries: Tensor, pairs: PairScores | None) -> Found:
        if self.parts is None:
            num_relevant = self.relevance.num_relevant[queries]
            depth = depth_in_rows(self.measures, num_relevant)
            gallery = len(self.space.given)
            deepest = float(depth.max())
            number = deepest + int(self.relevance.num_hidden[queries].max()) + SLACK
            if deepest > _DEEP * gallery / CHUNK and number < gallery / 2:
                return self._rank_top(scores, window, queries, depth, int(number), pairs)
        if self.relevance is None:
            none = torch.empty(len(queries), 0, dtype=torch.int64, device=scores.device)
            answers = Answers(none, none.bool(), none.bool(), none, none.bool())
        else:
            answers = self.relevance.of(queries)
        answers = Answers(*(field.to(scores.device) for field in answers))
        return ranks_by_counting(scores, answers, window, self.measures, pairs, self.parts)

    def _rank_top(
        self,
        scores: Tensor,
        window: Tensor,
        queries: Tensor,
        depth: Tensor,
        number: int,
        pairs: PairScores | None,
    ) -> Found:
        gallery = len(self.space.given)
        top = find_top(scores, gallery, number)
        found, complete = ranks_in_top(top, queries, self.relevance, window, depth, pairs)
        rows = (~complete & ~found.unsettled).nonzero().squeeze(1)
        if len(rows):
            # Too many equal or close scores at the depth that is asked for.
            here = rows.to(scores.device)
            top = find_top(scores[here], gallery, gallery)
            chosen = None if pairs is None else pairs.of(here)
            more, _ = ranks_in_top(top, queries[here], self.relevance, window[here], depth[rows], chosen)
            found = found.replaced(rows, more)
        return found


def _doubles(rows: Tensor) -> bool:
    """Whether products of such rows in fp64 say more; MPS has none."""
    return rows.dtype == torch.float32 and rows.device.type != 'mps'
