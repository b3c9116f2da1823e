"""Retrieval measures as functions of the ranks of a query's positives."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor


class Ranks(NamedTuple):
    """Where the positives of each query stand in its results.

    Attributes:
        ranks: ``(Q, P)`` float64, the 1-based ranks in rising order; inf where there are fewer than P positives, or
            where a positive stands deeper than any measure needs.
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


def _number(found: Ranks, depth: float | Tensor) -> Tensor:
    """``(Q,)`` positives at ranks <= depth."""
    return (found.ranks <= depth).sum(1).double()


def _discounts(ranks: Tensor) -> Tensor:
    """1 / log2(i + 1) of each rank i; 0 of infinite ones."""
    return 1 / (ranks + 1).log2()


def _ndcg_values(k: float) -> Callable[[Ranks], Tensor]:
    def values(found: Ranks) -> Tensor:
        gained = (_discounts(found.ranks) * (found.ranks <= k)).sum(1)
        # The best order has the positives at ranks 1 to min(R, K); no query has more than P of them.
        most = int(min(k, int(found.num_relevant.max())))
        best = _discounts(torch.arange(1, most + 1, dtype=torch.float64)).cumsum(0)
        return gained / best[found.num_relevant.clamp(1, max(most, 1)) - 1] if most else gained

    return values


def _inverse_negative_penalty(found: Ranks) -> Tensor:
    last = found.ranks.gather(1, found.num_relevant.clamp_min(1)[:, None] - 1)[:, 0]
    return found.num_relevant / last


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
            lambda found: _number(found, _up_to_r(found)) / found.num_relevant.clamp_min(1),
            within_r=True,
        ),
        Measure('mAP', lambda found: _precision_sum(found.ranks) / found.num_relevant.clamp_min(1), every=math.inf),
        Measure('MRR', lambda found: 1 / found.ranks[:, 0], nearest=math.inf),
        Measure('mINP', _inverse_negative_penalty, every=math.inf),
        Measure('NDCG', _ndcg_values(math.inf), every=math.inf),
    )
}

#: Measures with a K, by the part of the name before the @.
AT_K: dict[str, Callable[[int], Measure]] = {
    'Recall': lambda k: Measure(f'Recall@{k}', _hit(k), nearest=k),
    'CMC': lambda k: Measure(f'CMC@{k}', _hit(k), nearest=k),
    'Precision': lambda k: Measure(f'Precision@{k}', lambda found: _number(found, k) / k, every=k),
    'mAP': lambda k: Measure(
        f'mAP@{k}', lambda found: _precision_sum(found.ranks, k) / found.num_relevant.clamp(1, k), every=k
    ),
    'IRRecall': lambda k: Measure(
        f'IRRecall@{k}', lambda found: _number(found, k) / found.num_relevant.clamp_min(1), every=k
    ),
    'NDCG': lambda k: Measure(f'NDCG@{k}', _ndcg_values(k), every=k),
}
