"""Retrieval measures as functions of the ranks of a query's positives, their values query by query, and means."""

import logging
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import NamedTuple

import torch
from torch import Tensor

from mmdml.utils.near_names import did_you_mean

#: A block of scores holds at most so many entries (128 MB in fp32), however large the gallery.
MAX_BLOCK_ENTRIES = 2**25
#: A figure that the two rules on ties put further apart is worth a warning.
MAX_TIE_GAP = 1e-3
# Entries of a block that one padded place for a positive costs: indices, masks, and ranks in float64.
_ENTRIES_PER_POSITIVE = 12


class Ranks(NamedTuple):
    """Where the positives of each query stand in its results.

    Attributes:
        ranks: ``(Q, P)`` float64, the 1-based ranks in rising order; inf where there are fewer than P positives, or
            where a positive stands deeper than anybody asked.
        num_relevant: ``(Q,)`` int64 R, the number of positives.
    """

    ranks: Tensor
    num_relevant: Tensor


@dataclass(frozen=True)
class Measure:
    """A number in [0, 1] per query, and how deep its ranks must be known.

    Attributes:
        key: in the results.
        values: :class:`Ranks` -> ``(Q,)`` float64; 0 for queries without a positive.
        nearest: deepest rank of the nearest positive that matters; inf: all, 0: none.
        every: deepest rank of any positive that matters; inf: all, 0: none.
        within_r: whether the ranks up to R matter.
    """

    key: str
    values: Callable[[Ranks], Tensor]
    nearest: float = 0
    every: float = 0
    within_r: bool = False


def _precision_sum(ranks: Tensor, depth: float | Tensor = math.inf) -> Tensor:
    """Sum of precision@i over the positives at ranks i <= depth: the n-th positive at rank i has precision n / i."""
    number = torch.arange(1, ranks.shape[1] + 1, dtype=ranks.dtype)
    return (number / ranks * (ranks <= depth)).sum(1)


def _hit(k: int) -> Callable[[Ranks], Tensor]:
    return lambda found: (found.ranks[:, 0] <= k).double()


def _recall(k: int) -> Measure:
    return Measure(f'Recall@{k}', _hit(k), nearest=k)


def _cmc(k: int) -> Measure:
    return Measure(f'CMC@{k}', _hit(k), nearest=k)


def _precision(k: int) -> Measure:
    return Measure(f'Precision@{k}', lambda found: (found.ranks <= k).sum(1).double() / k, every=k)


def _map_at_k(k: int) -> Measure:
    return Measure(
        f'mAP@{k}',
        lambda found: _precision_sum(found.ranks, k) / found.num_relevant.clamp(1, k),
        every=k,
    )


def _up_to_r(found: Ranks) -> Tensor:
    return found.num_relevant[:, None]


#: Measures without a K, by name.
FIXED: dict[str, Measure] = {
    measure.key: measure
    for measure in (
        Measure(
            'MAP@R',
            lambda found: _precision_sum(found.ranks, _up_to_r(found)) / found.num_relevant.clamp_min(1),
            within_r=True,
        ),
        Measure(
            'RP',
            lambda found: (found.ranks <= _up_to_r(found)).sum(1).double() / found.num_relevant.clamp_min(1),
            within_r=True,
        ),
        Measure('mAP', lambda found: _precision_sum(found.ranks) / found.num_relevant.clamp_min(1), every=math.inf),
        Measure('MRR', lambda found: 1 / found.ranks[:, 0], nearest=math.inf),
    )
}

#: Measures with a K, by the part of the name before the @.
AT_K: dict[str, Callable[[int], Measure]] = {
    'Recall': _recall,
    'CMC': _cmc,
    'Precision': _precision,
    'mAP': _map_at_k,
}


def parse_measures(names: Sequence[str], recall_at: Sequence[int]) -> list[Measure]:
    """Measures by name: 'MAP@R', 'RP', 'mAP', 'MRR', 'mAP@10', 'CMC@1', 'Precision@5'; 'Recall@K' for all K at once.

    Args:
        names: K stands in the name; only 'Recall@K' takes it from ``recall_at``.
        recall_at: the K of 'Recall@K'.

    Raises:
        ValueError: if there are no names, one is unknown, or a K is not positive.
        TypeError: if a K of ``recall_at`` is no integer.
    """
    if isinstance(names, str):
        raise ValueError(f'metrics must be a sequence of names, got the single string {names!r}')
    if not all(isinstance(k, Integral) for k in recall_at):
        raise TypeError(f'recall_at must hold integers, got {tuple(recall_at)}')
    if any(k < 1 for k in recall_at):
        raise ValueError(f'recall_at must hold positive integers, got {tuple(recall_at)}')
    measures: list[Measure] = []
    unknown = []
    for name in names:
        family, _, k = str(name).partition('@')
        if name == 'Recall@K':
            measures += [_recall(int(k)) for k in recall_at]
        elif name in FIXED:
            measures.append(FIXED[name])
        elif family in AT_K and re.fullmatch('[1-9][0-9]*', k):
            measures.append(AT_K[family](int(k)))
        else:
            unknown.append(name)
    if unknown or not measures:
        known = ['Recall@K', *FIXED, *(f'{family}@5' for family in AT_K)]
        near = did_you_mean(unknown[0], known) if unknown else ''
        raise ValueError(f'unknown metrics {unknown}; known are {known}, the last {len(AT_K)} with any K{near}')
    return measures


def rows_per_block(block_size: int, queries: int, gallery: int, largest_class: int) -> int:
    """How many queries are scored at a time: no more than ``block_size``, and fewer where the gallery is large."""
    return max(1, min(block_size, queries, MAX_BLOCK_ENTRIES // (gallery + _ENTRIES_PER_POSITIVE * largest_class)))


class QueryValues:
    """Values of all measures for all queries.

    In the order of the caller, so that sums do not depend on blocks.

    Args:
        measures: what is computed from the ranks.
        number: of queries.
        ties: 'pessimistic' or 'optimistic': which ranks count.

    Attributes:
        values: key -> ``(number,)``.
        others: the same by the other rule on ties.
        answered: ``(number,)`` bool, the queries with a positive.
    """

    def __init__(self, measures: Iterable[Measure], number: int, ties: str) -> None:
        self.measures = list(measures)
        self.ties = ties
        self.values = {measure.key: torch.zeros(number, dtype=torch.float64) for measure in self.measures}
        self.others = {key: value.clone() for key, value in self.values.items()}
        self.answered = torch.zeros(number, dtype=torch.bool)

    def put(self, queries: Tensor, pessimistic: Tensor, optimistic: Tensor, num_relevant: Tensor) -> None:
        """Take the ranks of some queries.

        Args:
            queries: ``(q,)`` their numbers.
            pessimistic: ``(q, P)`` ranks, see :class:`Ranks`.
            optimistic: ``(q, P)``; the same tensor where nothing ties.
            num_relevant: ``(q,)``.
        """
        own, other = (pessimistic, optimistic) if self.ties == 'pessimistic' else (optimistic, pessimistic)
        self.answered[queries] = num_relevant > 0
        for measure in self.measures:
            values = measure.values(Ranks(own, num_relevant))
            self.values[measure.key][queries] = values
            self.others[measure.key][queries] = values if other is own else measure.values(Ranks(other, num_relevant))

    def means(self, no_positive: str, silent: bool = False) -> dict[str, float]:
        """Means over queries, and a word in the log on those that cannot be answered, and on ties.

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
        means, others = (
            {name: float(value[counted].mean()) for name, value in values.items()}
            for values in (self.values, self.others)
        )
        if not silent:
            _warn_of_ties(means, others, self.ties)
        return means


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
