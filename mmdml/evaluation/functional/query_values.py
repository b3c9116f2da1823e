"""Values of measures query by query, what they mean over queries and classes, and why some queries have none."""

import logging
from collections.abc import Iterable, Mapping

import numpy as np
import torch
from torch import Tensor

from .measures import Measure, Ranks

#: A block of scores holds at most so many entries (128 MB in fp32), however large the gallery.
MAX_BLOCK_ENTRIES = 2**25
#: A figure that the two rules on ties put further apart is worth a warning.
MAX_TIE_GAP = 1e-3
# Entries of a block that one padded place for a positive costs: indices, masks, and ranks in float64.
_ENTRIES_PER_POSITIVE = 12

#: Why a query has no positive in the gallery, in the order in which it is found out.
CAUSES = (
    'with no gallery row of their label',
    'with no gallery row of their label but themselves',
    'with no gallery row of their label but junk (rows of their label and group)',
)


def rows_per_block(block_size: int, queries: int, gallery: int, largest_class: int) -> int:
    """How many queries are scored at a time: no more than ``block_size``, and fewer where the gallery is large."""
    return max(1, min(block_size, queries, MAX_BLOCK_ENTRIES // (gallery + _ENTRIES_PER_POSITIVE * largest_class)))


class QueryValues:
    """Values of all measures for all queries, in the order of the caller: sums do not depend on blocks.

    Args:
        measures: what is computed from the ranks.
        ties: 'pessimistic' or 'optimistic': which ranks count.
        num_relevant: ``(Q,)`` positives of each query.
        same_label: ``(Q,)`` gallery rows of each query's label.
        num_own: ``(Q,)`` those of them that are the query itself.

    Attributes:
        values: key -> ``(Q,)`` float64; 0 for queries without a positive.
        others: the same by the other rule on ties.
        answered: ``(Q,)`` bool, the queries with a positive.
    """

    def __init__(
        self, measures: Iterable[Measure], ties: str, num_relevant: Tensor, same_label: Tensor, num_own: Tensor
    ) -> None:
        self.measures = list(measures)
        self.ties = ties
        self.num_relevant = num_relevant.cpu()
        self.answered = self.num_relevant > 0
        zeros = torch.zeros(len(self.num_relevant), dtype=torch.float64)
        self.values = {measure.key: zeros.clone() for measure in self.measures}
        self.others = {measure.key: zeros.clone() for measure in self.measures}
        same_label, num_own = same_label.cpu(), num_own.cpu()
        cause = torch.where(same_label == 0, 0, torch.where(same_label == num_own, 1, 2))
        self._causes = torch.bincount(cause[~self.answered], minlength=len(CAUSES)).tolist()

    def put(self, queries: Tensor, pessimistic: Tensor, optimistic: Tensor) -> None:
        """Take the ranks of some queries.

        Args:
            queries: ``(q,)`` their numbers.
            pessimistic: ``(q, P)`` ranks, see :class:`Ranks`.
            optimistic: ``(q, P)``; the same tensor where nothing ties.
        """
        num_relevant = self.num_relevant[queries]
        own, other = (pessimistic, optimistic) if self.ties == 'pessimistic' else (optimistic, pessimistic)
        for measure in self.measures:
            values = measure.values(Ranks(own, num_relevant))
            self.values[measure.key][queries] = values
            self.others[measure.key][queries] = values if other is own else measure.values(Ranks(other, num_relevant))

    def means(self, no_positive: str, silent: bool = False) -> dict[str, float]:
        """Means over queries; the log gets how many have no positive and why, and what ties decide.

        Args:
            no_positive: 'skip' or 'miss', what becomes of queries without a positive.
            silent: log nothing.

        Raises:
            ValueError: if no query has a positive, and such are left out; names the causes with their counts.
        """
        number, without = len(self.answered), int((~self.answered).sum())
        causes = ', '.join(f'{count} {cause}' for count, cause in zip(self._causes, CAUSES, strict=True) if count)
        if without == number and no_positive == 'skip':
            raise ValueError(
                f'none of the {number} queries has a positive in the gallery ({causes}): nothing can be scored'
            )
        if without and not silent:
            logging.getLogger('mmdml').warning(
                '%d of %d queries have no positive in the gallery and %s (%s)',
                *(without, number, 'are left out' if no_positive == 'skip' else 'count as misses', causes),
            )
        counted = self.answered if no_positive == 'skip' else torch.ones_like(self.answered)
        means, others = (
            {name: float(value[counted].mean()) for name, value in values.items()}
            for values in (self.values, self.others)
        )
        if not silent:
            _warn_of_ties(means, others, self.ties)
        return means

    def class_means(self, labels: np.ndarray) -> dict[object, dict[str, float]]:
        """Means over the queries of each class that have a positive, by label, then by key.

        A class none of whose queries has a positive is left out.

        Args:
            labels: ``(Q,)`` of the queries.
        """
        answered = self.answered.numpy()
        classes, codes = np.unique(np.asarray(labels)[answered], return_inverse=True)
        counts = np.bincount(codes, minlength=len(classes))
        columns = {
            key: np.bincount(codes, value.numpy()[answered], minlength=len(classes)) / counts
            for key, value in self.values.items()
        }
        return {
            label: {key: float(column[place]) for key, column in columns.items()}
            for place, label in enumerate(classes.tolist())
        }


def _warn_of_ties(means: Mapping[str, float], others: Mapping[str, float], ties: str) -> None:
    gaps = {name: abs(others[name] - value) for name, value in means.items()}
    name = max(gaps, key=gaps.get)
    if gaps[name] > MAX_TIE_GAP:
        other = 'optimistic' if ties == 'pessimistic' else 'pessimistic'
        logging.getLogger('mmdml').warning(
            'equal scores of positives and negatives decide %.2f %% of %s: %.2f %% with the %s rule on ties, %.2f %% '
            'with the %s one; many embeddings are equal',
            *(100 * gaps[name], name, 100 * means[name], ties, 100 * others[name], other),
        )
