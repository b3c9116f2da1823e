"""Ranks of the positives by matrix products: the search that serves every case."""

from collections.abc import Iterable
from functools import cached_property, partial

import torch
from torch import Tensor

from mmdml.functional.distances import Space
from mmdml.functional.double_scores import DoubleScores, distinct_rows

from .counting import CHUNK
from .measures import Measure
from .ranks import FAR, Found, OneProcess, Scores, ranks_by_counting
from .relevance import Answers, Relevance
from .top_ranks import PairScores, find_number, ranks_by_top

#: Device types where ``out=`` into some columns of a tensor writes elsewhere (pytorch#104832).
NO_OUT_COLUMNS = ('mps',)
# Rows with many close pairs are scored again in fp64, so large a share of a block at a time.
ROWS_AGAIN = 1 / 4


def new_scores(rows: int, gallery: Tensor) -> Tensor:
    """``(rows, L)`` of -inf, to be filled by :func:`multiply`; L is the next multiple of :data:`CHUNK` from G on.

    Whole chunks, so that the last one needs no rule of its own, and one where the gallery has no row.
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


class MatrixSearch:
    """Ranks of the positives from matrix products, on any device.

    Products find what may stand before a positive; pairs of scores that are closer than their rounding
    (:class:`~mmdml.functional.distances.Space`) are compared by exact scores. Rows with many such pairs are scored
    again by products in fp64, and if there are still many, by exact scores throughout.

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

    @cached_property
    def double(self) -> DoubleScores:
        """Scores in fp64."""
        return DoubleScores(self.space)

    @cached_property
    def distinct(self) -> tuple[Tensor, Tensor]:
        """Gallery rows of which no two are equal, and which of them each row is equal to."""
        return distinct_rows(self.space.given)

    def ranks(self, given: Tensor, queries: Tensor) -> Found:
        """Ranks of the positives of some queries.

        Args:
            given: ``(Q, D)`` their embeddings.
            queries: ``(Q,)`` their numbers.
        """
        rows, window = self.space.queries(given)
        scores = multiply(rows, self.space.gallery, self.buffer)
        found = self._rank(scores, window, queries, partial(self.space.pairs, given), given)
        for score in [self._in_double] * _has_double(given) + [self._exactly]:
            again = found.unsettled.nonzero().squeeze(1)
            for part in again.split(max(1, int(self.rows * ROWS_AGAIN))) if len(again) else ():
                here = part.to(given.device)
                found = found.replaced(part, score(given[here], queries[here]))
        return found

    def _in_double(self, given: Tensor, queries: Tensor) -> Found:
        """Return the same from products in fp64."""
        directions, window = self.double.directions(given)
        scores = new_scores(len(given), self.space.gallery).double()
        self.double.put(directions, scores)
        return self._rank(scores, window, queries, partial(self.space.pairs, given))

    def _exactly(self, given: Tensor, queries: Tensor) -> Found:
        """Return the same from the exact scores of all pairs; equal gallery rows are scored once."""
        distinct, copies = self.distinct
        scores = new_scores(len(given), self.space.gallery).double()
        if given.device.type == 'mps':
            scores, copies = scores.cpu(), copies.cpu()
        for place in range(len(given)):
            rows = torch.full_like(distinct, place)
            scores[place, : len(copies)] = self.space.pairs(given, rows, distinct)[copies]
        return self._rank(scores, torch.zeros_like(scores[:, :1]), queries, None)

    def _rank(
        self, scores: Tensor, window: Tensor, queries: Tensor, exact: Scores | None, given: Tensor | None = None
    ) -> Found:
        if self.parts is None:
            number = find_number(self.measures, self.relevance, queries)
            if number is not None:
                pairs = self.pair_scores(given) if given is not None else exact and PairScores(exact)
                return ranks_by_top(scores, number, queries, self.relevance, window, self.measures, pairs)
        if self.relevance is None:
            none = torch.empty(len(queries), 0, dtype=torch.int64, device=scores.device)
            answers = Answers(none, none.bool(), none.bool(), none, none.bool())
        else:
            answers = self.relevance.of(queries)
        answers = Answers(*(field.to(scores.device) for field in answers))
        return ranks_by_counting(scores, answers, window, self.measures, exact, self.parts)

    def pair_scores(self, given: Tensor) -> PairScores:
        """Return scores of pairs of some queries with gallery rows, by products in fp64 first where there are such."""
        exact = partial(self.space.pairs, given)
        if not _has_double(given):
            return PairScores(exact)
        directions, window = self.double.directions(given)
        return PairScores(exact, partial(self.double.pairs, directions), window)


def _has_double(rows: Tensor) -> bool:
    """Whether products of such rows in fp64 say more; MPS has none."""
    return rows.dtype == torch.float32 and rows.device.type != 'mps'
