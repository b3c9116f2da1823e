"""Searches: ranks of the positives by matrix products, by faiss, and by re-ranked distances."""

import math
from collections.abc import Callable, Iterable
from functools import cached_property, partial

import numpy as np
import torch
from torch import Tensor

from mmdml.functional.reranking import DISTANCES, KReciprocalEncoding
from mmdml.functional.spaces import Space

from .measures import Measure
from .ranks import CHUNK, FAR, Found, OneProcess, PairScores, multiply, new_scores, ranks_by_counting
from .relevance import Answers, Relevance
from .top_ranks import SLACK, Top, depth_in_rows, find_top, ranks_in_top

# Depths from this share of the chunks on: the highest scores are looked for, not the highest of each chunk.
_DEEP = 1 / 4
# Rows with many close pairs are scored again in fp64, so large a share of a block at a time.
_AGAIN = 1 / 4


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
            for part in rows.split(max(1, int(self.rows * _AGAIN))) if len(rows) else ():
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


class FaissSearch(MatrixSearch):
    """Exact search by inner product on the CPU (``faiss.IndexFlatIP``), in fp32; it finds the nearest rows only.

    Queries whose positives cannot be told from the rows that were found are searched as by :class:`MatrixSearch`.

    Args:
        space: of the gallery.
        relevance: of all queries in that gallery.
        measures: what is computed from the ranks; none may need all of them.
        rows: most queries at a time; faiss bounds its own memory.
    """

    def __init__(self, space: Space, relevance: Relevance, measures: Iterable[Measure], rows: int) -> None:
        import faiss

        super().__init__(space, relevance, measures, rows)
        self.index = faiss.IndexFlatIP(space.gallery.shape[1])
        self.index.add(_array(space.gallery))

    def ranks(self, given: Tensor, queries: Tensor) -> Found:
        """Ranks of the positives of some queries, as :meth:`MatrixSearch.ranks`."""
        block = self.space.queries(given)
        gallery = len(self.space.given)
        depth = depth_in_rows(self.measures, self.relevance.num_relevant[queries])
        number = min(int(depth.max()) + int(self.relevance.num_hidden[queries].max()) + SLACK, gallery)
        scores, columns = map(torch.from_numpy, self.index.search(_array(block.rows), number))
        lowest = scores[:, -1:] if number < gallery else torch.full_like(scores[:, -1:], FAR)
        window = block.window * (torch.finfo(torch.float32).eps / torch.finfo(given.dtype).eps)
        found, complete = ranks_in_top(
            Top(scores, columns, lowest),
            queries,
            self.relevance,
            window.float(),
            depth,
            self._pairs(given),
        )
        rows = (~complete | found.unsettled).nonzero().squeeze(1)
        return found.replaced(rows, super().ranks(given[rows], queries[rows])) if len(rows) else found


class RerankedSearch:
    """Search by distances re-ranked with :class:`~mmdml.functional.reranking.KReciprocalEncoding`, in fp64.

    All rows take part in the neighborhoods, also those that do not count as results: junk, and the query itself. That
    is how Zhong et al., CVPR 2017 do it.

    Args:
        space: of the gallery.
        relevance: of all queries in that gallery.
        measures: what is computed from the ranks.
        rows: most queries at a time.
        query: ``(Q, D)`` all queries.
        distance: that ``space`` was made for, 'cosine' or 'euclidean'.
        own_gallery: whether the queries search each other. Each is then one row of the neighborhoods, not two.
        k1: see :class:`KReciprocalEncoding`, as ``k2`` and ``weight``.
        k2: see there.
        weight: see there.

    Raises:
        ValueError: if the distance is another, or a setting is out of range.
    """

    any_order = False

    def __init__(
        self,
        space: Space,
        relevance: Relevance,
        measures: Iterable[Measure],
        rows: int,
        *,
        query: Tensor,
        distance: str,
        own_gallery: bool,
        k1: int = 20,
        k2: int = 6,
        weight: float = 0.3,
    ) -> None:
        if distance not in DISTANCES:
            raise ValueError(f're-ranking knows the distances {list(DISTANCES)}, got {distance!r}')
        gallery = space.given
        if query.device.type != 'mps':
            query, gallery = query.double(), gallery.double()
        self.encoding = KReciprocalEncoding(
            query, None if own_gallery else gallery, k1=k1, k2=k2, weight=weight, distance=distance
        )
        self.relevance = relevance
        self.measures = list(measures)
        self.rows = max(1, int(rows * _AGAIN))

    def ranks(self, given: Tensor, queries: Tensor) -> Found:
        """Ranks of the positives of some queries, as :meth:`MatrixSearch.ranks`."""
        parts = [self._ranks(part) for part in queries.split(self.rows)]
        found = Found(
            *(torch.full((len(queries), 1), math.inf, dtype=torch.float64),) * 2, torch.zeros(len(queries)).bool()
        )
        for number, part in enumerate(parts):
            rows = torch.arange(number * self.rows, number * self.rows + len(part.unsettled))
            found = found.replaced(rows, part)
        return found

    def _ranks(self, queries: Tensor) -> Found:
        start, stop = int(queries[0]), int(queries[-1]) + 1
        jaccard, original = self.encoding.jaccard(start, stop), self.encoding.original(start, stop)
        weight = self.encoding.weight
        scores = new_scores(len(queries), original.t())
        scores[:, : original.shape[1]] = ((1 - weight) * jaccard + weight * original).neg_()

        def pair_scores(rows: Tensor, columns: Tensor) -> Tensor:
            own = self.encoding.original_of_pairs(rows + start, columns)
            return ((1 - weight) * jaccard[rows, columns] + weight * own).neg_()

        answers = self.relevance.of(queries)
        window = self.encoding.rounding(start, stop)
        found = ranks_by_counting(scores.clone(), answers, window, self.measures, PairScores(pair_scores))
        if not found.unsettled.any():
            return found
        rows = torch.arange(len(queries), device=scores.device).repeat_interleave(original.shape[1])
        columns = torch.arange(original.shape[1], device=scores.device).repeat(len(queries))
        scores[:, : original.shape[1]] = pair_scores(rows, columns).view_as(original)
        return ranks_by_counting(scores, answers, torch.zeros_like(window), self.measures, None)


#: name -> search for the positives' ranks.
SEARCHES: dict[str, Callable[..., MatrixSearch]] = {'torch': MatrixSearch, 'faiss': FaissSearch}


def _doubles(rows: Tensor) -> bool:
    """Whether products of such rows in fp64 say more; MPS has none."""
    return rows.dtype == torch.float32 and rows.device.type != 'mps'


def _array(rows: torch.Tensor) -> np.ndarray:
    return np.ascontiguousarray(rows.cpu().numpy(), dtype=np.float32)
