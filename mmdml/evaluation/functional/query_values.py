"""The values of each query, block after block, and their means."""

import logging
from collections.abc import Iterable

import torch

from .measures import Measure, Ranks

#: A block of scores holds at most so many entries (128 MB in fp32), however large the gallery.
MAX_BLOCK_ENTRIES = 2**25
# Entries of a block that one padded place for a positive costs: indices, masks, and ranks in float64.
_ENTRIES_PER_POSITIVE = 12


def rows_per_block(block_size: int, queries: int, gallery: int, largest_class: int) -> int:
    """How many queries are scored at a time: no more than ``block_size``, and fewer where the gallery is large."""
    return max(1, min(block_size, queries, MAX_BLOCK_ENTRIES // (gallery + _ENTRIES_PER_POSITIVE * largest_class)))


class QueryValues:
    """Values of all measures for all queries.

    In the order of the caller, so that sums do not depend on blocks.

    Args:
        measures: what is computed from the ranks.
        number: of queries.
    """

    def __init__(self, measures: Iterable[Measure], number: int) -> None:
        self.measures = list(measures)
        self.values = {measure.key: torch.zeros(number, dtype=torch.float64) for measure in self.measures}
        self.answered = torch.zeros(number, dtype=torch.bool)

    def put(self, part: slice, found: Ranks) -> None:
        """Take the ranks of some queries."""
        self.answered[part] = found.num_relevant > 0
        for measure in self.measures:
            self.values[measure.key][part] = measure.values(found)

    def means(self, no_positive: str, silent: bool = False) -> dict[str, float]:
        """Means over queries, and a word in the log on those that cannot be answered.

        Args:
            no_positive: 'skip' or 'miss', what becomes of those.
            silent: no word.

        Raises:
            ValueError: if no query can be answered, and such are skipped.
        """
        number, without = len(self.answered), int((~self.answered).sum())
        if without == number and no_positive == 'skip':
            raise ValueError(f'none of the {number} queries has a positive in the gallery: nothing can be scored')
        if without and not silent:
            logging.getLogger('mmdml').warning(
                '%d of %d queries have no positive in the gallery and %s',
                *(without, number, 'are left out' if no_positive == 'skip' else 'count as misses'),
            )
        counted = self.answered if no_positive == 'skip' else torch.ones_like(self.answered)
        return {name: float(value[counted].mean()) for name, value in self.values.items()}
