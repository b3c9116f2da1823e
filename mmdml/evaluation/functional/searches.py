"""Searches: ranks of the positives by matrix products, by faiss, and by re-ranked distances."""

from collections.abc import Callable, Iterable

import numpy as np
import torch

from mmdml.functional.reranking import DISTANCES, KReciprocalEncoding
from mmdml.functional.spaces import TIE, Space

from .measures import Measure, Ranks
from .ranks import Ahead, Depth, count_listed, find_thresholds, multiply, new_scores, ranks_in_block, to_ranks
from .relevance import Answers, Relevance


class MatrixSearch:
    """Ranks of the positives from matrix products, on any device.

    Args:
        space: of queries and gallery.
        relevance: who answers whom.
        ties: 'pessimistic' or 'optimistic'.
        measures: what is computed from the ranks.
        rows: most queries at a time.
    """

    def __init__(self, space: Space, relevance: Relevance, ties: str, measures: Iterable[Measure], rows: int) -> None:
        self.space = space
        self.relevance = relevance
        self.ties = ties
        self.measures = list(measures)
        self.buffer = new_scores(rows, space.gallery)

    def ranks(self, part: slice, answers: Answers) -> Ranks:
        """Ranks of the positives of some queries."""
        scores = multiply(self.space.query[part], self.space.gallery, self.buffer)
        return ranks_in_block(scores, answers, self.space.tie[part], self.ties, self.measures)


class FaissSearch:
    """Exact search by inner product on the CPU (``faiss.IndexFlatIP``), in fp32.

    Args:
        space: of queries and gallery.
        relevance: who answers whom.
        ties: 'pessimistic' or 'optimistic'.
        measures: what is computed from the ranks; none may need all of them.
        rows: most queries at a time; faiss bounds its own memory.

    Raises:
        ValueError: if a measure needs ranks of any depth.
    """

    def __init__(self, space: Space, relevance: Relevance, ties: str, measures: Iterable[Measure], rows: int) -> None:
        import faiss

        self.measures = list(measures)
        deep = [measure.key for measure in self.measures if np.inf in (measure.every, measure.nearest)]
        if deep:
            raise ValueError(
                f"{deep} need the ranks of all positives, faiss finds the nearest only: use backend='torch'"
            )
        self.space = space
        self.relevance = relevance
        self.ties = ties
        self.index = faiss.IndexFlatIP(space.gallery.shape[1])
        self.index.add(_array(space.gallery))

    def ranks(self, part: slice, answers: Answers) -> Ranks:
        """Ranks of the positives of some queries."""
        num_relevant = answers.relevant.sum(1)
        depth = int(max(Depth.of(self.measures, int(num_relevant.max()))))
        # So many rows hold ``depth`` negatives, or all there are.
        own = answers.columns.shape[1] + answers.hidden.shape[1]
        k = min(depth + own, len(self.space.gallery))
        found, columns = self.index.search(_array(self.space.query[part]), k)
        found, columns = torch.from_numpy(found), torch.from_numpy(columns)

        same_label, counts = self.relevance.compare(part, columns)
        tie = self.space.tie[part].to(found.dtype)
        positives = found.masked_fill(~(same_label & counts), float('-inf')).sort(1, descending=True).values
        thresholds = find_thresholds(positives[:, : answers.columns.shape[1]], tie, self.ties)
        everything = k == len(self.space.gallery)
        lowest = torch.full_like(found[:, -1], torch.finfo(found.dtype).min) if everything else found[:, -1]
        reach = torch.where(thresholds > float('-inf'), thresholds, torch.inf).amin(1)
        cut = torch.maximum(lowest, reach)
        kept = ~same_label & counts & (found >= cut[:, None])
        before = count_listed(thresholds, cut, [Ahead(kept.nonzero()[:, 0], found[kept])])
        ranks = to_ranks(before, thresholds, cut, num_relevant)

        # A positive that was not found scores no more than the last row that was: it stands deeper if ``depth``
        # negatives stand before a positive of that score. Where the last rows tie they may not.
        negatives = found.masked_fill(same_label | ~counts, float('-inf'))
        deepest = negatives.topk(min(depth, k), dim=1).values[:, -1]
        missing = (same_label & counts).sum(1) < num_relevant
        unsure = missing & (find_thresholds(found[:, -1:], tie, self.ties)[:, 0] > deepest)
        if unsure.any():
            ranks.ranks[unsure] = self._by_product(part, answers, unsure).ranks
        return ranks

    def _by_product(self, part: slice, answers: Answers, chosen: torch.Tensor) -> Ranks:
        """Ranks of the positives of the chosen queries, from their scores against the whole gallery."""
        query, gallery = self.space.query[part][chosen], self.space.gallery
        scores = multiply(query, gallery, new_scores(len(query), gallery))
        answers = Answers(*(field[chosen] for field in answers))
        return ranks_in_block(scores, answers, self.space.tie[part][chosen], self.ties, self.measures)


class RerankedSearch:
    """Search by distances re-ranked with :class:`~mmdml.functional.reranking.KReciprocalEncoding`.

    All rows take part in the neighbourhoods, also those that do not count as results: junk, and the query itself. That
    is how Zhong et al., CVPR 2017 do it. Distances lie in [0, 1], and tie within 1e-6.

    Args:
        space: of queries and gallery.
        relevance: who answers whom.
        ties: 'pessimistic' or 'optimistic'.
        measures: what is computed from the ranks.
        rows: most queries at a time.
        distance: that ``space`` was made for, 'cosine' or 'euclidean'.
        own_gallery: whether the queries search each other. Each is then one row of the neighbourhoods, not two.
        k1: see :class:`KReciprocalEncoding`, as ``k2`` and ``weight``.
        k2: see there.
        weight: see there.

    Raises:
        ValueError: if the distance is another, or a setting is out of range.
    """

    def __init__(
        self,
        space: Space,
        relevance: Relevance,
        ties: str,
        measures: Iterable[Measure],
        rows: int,
        *,
        distance: str,
        own_gallery: bool,
        k1: int = 20,
        k2: int = 6,
        weight: float = 0.3,
    ) -> None:
        if distance not in DISTANCES:
            raise ValueError(f're-ranking knows the distances {list(DISTANCES)}, got {distance!r}')
        query, gallery = space.query, space.gallery
        if distance == 'euclidean':
            # The last column is there for the matrix product only.
            query, gallery = query[:, :-1], gallery[:, :-1]
        self.encoding = KReciprocalEncoding(
            query, None if own_gallery else gallery, k1=k1, k2=k2, weight=weight, distance=distance
        )
        self.ties = ties
        self.measures = list(measures)
        self.buffer = new_scores(rows, gallery)

    def ranks(self, part: slice, answers: Answers) -> Ranks:
        """Ranks of the positives of some queries."""
        distances = self.encoding.distances(part.start, part.stop)
        scores = self.buffer[: len(distances)]
        scores[:, : distances.shape[1]] = distances.neg_()
        return ranks_in_block(scores, answers, TIE, self.ties, self.measures)


#: name -> search for the positives' ranks.
SEARCHES: dict[str, Callable[..., MatrixSearch | FaissSearch | RerankedSearch]] = {
    'torch': MatrixSearch,
    'faiss': FaissSearch,
}


def _array(rows: torch.Tensor) -> np.ndarray:
    return np.ascontiguousarray(rows.cpu().numpy(), dtype=np.float32)
