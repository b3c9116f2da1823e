"""Ranks of the positives after re-ranking."""

from collections.abc import Iterable

from mmdml.functional.reranking import DISTANCES, KReciprocalEncoding
from mmdml.functional.spaces import TIE, Space

from .measures import Measure, Ranks
from .ranks import new_scores, ranks_in_block
from .relevance import Answers, Relevance


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
