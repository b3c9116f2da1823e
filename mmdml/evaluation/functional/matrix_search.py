"""Ranks of the positives by matrix products: the search that serves every case."""

from collections.abc import Iterable
from functools import cached_property, partial

import torch
from torch import Tensor

from mmdml.functional.space import Space

from .close_runs import PairScores
from .finer_scores import FinerScores
from .measures import Measure
from .ranks import Found, OneProcess, Scores, new_scores, ranks_by_counting
from .relevance import Matches, Relevance
from .top_ranks import find_number, ranks_by_top

#: Device types where ``out=`` into some columns of a tensor writes elsewhere (pytorch#104832).
NO_OUT_COLUMNS = ('mps',)
# Rows with many close pairs are scored again in fp64, so large a share of a block at a time.
ROWS_AGAIN = 1 / 4


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
    (:class:`~mmdml.functional.space.Space`) are compared by exact scores. Rows with many such pairs are scored
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
        self.finer = FinerScores(space)

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
        rows, window = self.space.queries(given)
        scores = multiply(rows, self.space.gallery, self.buffer)
        found = self._rank(scores, window, partial(self.space.pairs, given), queries, given)
        for score in self.finer.in_turn:
            again = found.unsettled.nonzero().squeeze(1)
            for part in again.split(max(1, int(self.rows * ROWS_AGAIN))) if len(again) else ():
                here = part.to(given.device)
                found = found.replaced(part, self._rank(*score(given[here]), queries[here]))
        return found

    def _rank(
        self, scores: Tensor, window: Tensor, exact: Scores | None, queries: Tensor, given: Tensor | None = None
    ) -> Found:
        if self.parts is None:
            number = find_number(self.measures, self.relevance, queries)
            if number is not None:
                pairs = exact and PairScores(exact) if given is None else self.finer.pairs(given)
                return ranks_by_top(scores, number, queries, self.relevance, window, self.measures, pairs)
        if self.relevance is None:
            none = torch.empty(len(queries), 0, dtype=torch.int64, device=scores.device)
            matches = Matches(none, none.bool(), none.bool(), none, none.bool())
        else:
            matches = self.relevance.of(queries)
        matches = Matches(*(field.to(scores.device) for field in matches))
        return ranks_by_counting(scores, matches, window, self.measures, exact, self.parts)
