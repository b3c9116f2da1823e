"""Searches: ranks of the positives by matrix products, by faiss, and by re-ranked distances."""

import math
from collections.abc import Callable, Iterable

import numpy as np
import torch
from torch import Tensor

from mmdml.functional.reranking import DISTANCES, KReciprocalEncoding
from mmdml.functional.space import Space

from .matrix_search import ROWS_AGAIN, MatrixSearch
from .measures import Measure
from .ranks import FAR, Found, new_scores, ranks_by_counting
from .relevance import Relevance
from .top_ranks import SLACK, Top, depth_in_rows, ranks_in_top


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
        rows, window = self.space.queries(given)
        gallery = len(self.space.given)
        depth = depth_in_rows(self.measures, self.relevance.num_relevant[queries])
        number = min(int(depth.max()) + int(self.relevance.num_hidden[queries].max()) + SLACK, gallery)
        scores, columns = map(torch.from_numpy, self.index.search(_array(rows), number))
        lowest = scores[:, -1:] if number < gallery else torch.full_like(scores[:, -1:], FAR)
        window = window * (torch.finfo(torch.float32).eps / torch.finfo(given.dtype).eps)
        found, complete = ranks_in_top(
            Top(scores, columns, lowest),
            queries,
            self.relevance,
            window.float(),
            depth,
            self.finer.pairs(given),
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
            raise ValueError(f're-ranking needs one of the distances {list(DISTANCES)}, got {distance!r}')
        gallery = space.given
        if query.device.type != 'mps':
            query, gallery = query.double(), gallery.double()
        self.encoding = KReciprocalEncoding(
            query, None if own_gallery else gallery, k1=k1, k2=k2, weight=weight, distance=distance
        )
        self.relevance = relevance
        self.measures = list(measures)
        self.rows = max(1, int(rows * ROWS_AGAIN))

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

        matches = self.relevance.of(queries)
        window = self.encoding.rounding(start, stop)
        found = ranks_by_counting(scores.clone(), matches, window, self.measures, pair_scores)
        if not found.unsettled.any():
            return found
        rows = torch.arange(len(queries), device=scores.device).repeat_interleave(original.shape[1])
        columns = torch.arange(original.shape[1], device=scores.device).repeat(len(queries))
        scores[:, : original.shape[1]] = pair_scores(rows, columns).view_as(original)
        return ranks_by_counting(scores, matches, torch.zeros_like(window), self.measures, None)


#: name -> search for the positives' ranks.
SEARCHES: dict[str, Callable[..., MatrixSearch]] = {'torch': MatrixSearch, 'faiss': FaissSearch}


def _array(rows: torch.Tensor) -> np.ndarray:
    return np.ascontiguousarray(rows.cpu().numpy(), dtype=np.float32)
