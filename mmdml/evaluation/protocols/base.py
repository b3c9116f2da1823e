"""What a protocol yields."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np

from mmdml.structures.row_facts import RowFacts


class Split(NamedTuple):
    """One search to be scored.

    Splits with the same prefix are draws of one experiment: what counts is the mean of their scores.

    Attributes:
        query: ``(Q,)`` rows that search.
        gallery: ``(G,)`` rows that are searched; None: the queries search each other.
        prefix: before the names of the scores, such as 'small/'.
    """

    query: np.ndarray
    gallery: np.ndarray | None = None
    prefix: str = ''

    @property
    def members(self) -> np.ndarray:
        """All images of the search."""
        return self.query if self.gallery is None else np.union1d(self.query, self.gallery)


#: Which images of a test set search which.
Protocol = Callable[[RowFacts], Iterable[Split]]
