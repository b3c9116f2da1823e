"""The options of a search: names, defaults and checks, once for functions, metric and command."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from numbers import Integral
from typing import Any

import numpy as np

from mmdml.functional.distances import DISTANCES
from mmdml.utils.near_names import check_settings, did_you_mean

from .measures import AT_K, FIXED, Measure
from .ranks import TIES
from .searches import SEARCHES, RerankedSearch

NO_POSITIVE = ('skip', 'miss')
# No gallery is deeper, and tensors hold no whole number of any size.
_MAX_K = 2**31 - 1


def parse_measures(names: Sequence[str], recall_at: Sequence[int]) -> list[Measure]:
    """Measures by name: 'MAP@R', 'RP', 'mAP', 'mINP', 'mAP@10', 'CMC@1', 'Precision@5'; 'Recall@K' for all K at once.

    Args:
        names: K stands in the name; only 'Recall@K' takes it from ``recall_at``.
        recall_at: the K of 'Recall@K'.

    Raises:
        ValueError: if there are no names, one is unknown, or a K is not positive or no int32.
        TypeError: if a K of ``recall_at`` is no integer.
    """
    if isinstance(names, str):
        raise ValueError(f'metrics must be a sequence of names, got the single string {names!r}')
    if not all(isinstance(k, Integral) for k in recall_at):
        raise TypeError(f'recall_at must hold integers, got {tuple(recall_at)}')
    if any(k < 1 for k in recall_at):
        raise ValueError(f'recall_at must hold positive integers, got {tuple(recall_at)}')
    if any(k > _MAX_K for k in recall_at):
        raise ValueError(f'recall_at must hold integers of at most {_MAX_K}, got {tuple(recall_at)}')
    measures: list[Measure] = []
    unknown = []
    for name in names:
        family, _, k = str(name).partition('@')
        if name == 'Recall@K':
            measures += [AT_K['Recall'](int(k)) for k in recall_at]
        elif name in FIXED:
            measures.append(FIXED[name])
        elif family in AT_K and re.fullmatch('[1-9][0-9]*', k) and int(k) <= _MAX_K:
            measures.append(AT_K[family](int(k)))
        else:
            unknown.append(name)
    if unknown or not measures:
        known = ['Recall@K', *FIXED, *(f'{family}@5' for family in AT_K)]
        near = did_you_mean(unknown[0], known) if unknown else ''
        raise ValueError(f'unknown metrics {unknown}; known are {known}, the last {len(AT_K)} with any K{near}')
    return measures


@dataclass(frozen=True, kw_only=True)
class SearchOptions:
    """How queries are searched in a gallery, and what is measured.

    Args:
        recall_at: the K of 'Recall@K'.
        metrics: 'Recall@K' (all of ``recall_at``), 'MAP@R', 'RP', 'mAP', 'MRR', 'mINP', 'NDCG', and with any K
            'Recall@10', 'CMC@1', 'IRRecall@10', 'mAP@10', 'Precision@5', 'NDCG@10'; see
            :data:`~mmdml.evaluation.functional.measures.FIXED` and ``AT_K``.
        distance: 'cosine', 'dot' (larger is nearer), 'euclidean', or 'hyperbolic' (points of the unit ball).
        ties: 'pessimistic' (of equal scores negatives come first) or 'optimistic' (positives do).
        no_positive: 'skip' or 'miss': queries without a positive are left out, or score 0.
        backend: 'torch', or 'faiss' for its exact search on the CPU in fp32, which finds the nearest rows only: it
            refuses 'mAP', 'MRR', 'mINP' and 'NDCG'; all other measures are the same.
        reranking: settings ``k1``, ``k2`` and ``weight`` of re-ranking by k-reciprocal encoding, see
            :class:`~mmdml.functional.reranking.KReciprocalEncoding`; an empty dict for its defaults. For 'cosine' and
            'euclidean', not with 'faiss'. None: none.
        block_size: queries scored at a time, fewer where the gallery is large; changes memory, not results.

    Raises:
        ValueError: if a name is unknown, a number out of range, or an option does not go with another.
        TypeError: if an option is of another type.
    """

    recall_at: Sequence[int] = (1, 2, 4, 8)
    metrics: Sequence[str] = ('Recall@K', 'MAP@R', 'RP')
    distance: str = 'cosine'
    ties: str = 'pessimistic'
    no_positive: str = 'skip'
    backend: str = 'torch'
    reranking: Mapping[str, float] | None = None
    block_size: int = 1024

    def __post_init__(self) -> None:
        recall_at = (self.recall_at,) if isinstance(self.recall_at, Integral) else self.recall_at
        measures = parse_measures(self.metrics, recall_at)
        for name, value in (('recall_at', tuple(recall_at)), ('metrics', tuple(self.metrics))):
            object.__setattr__(self, name, value)
        for name, known in CHOICES.items():
            value = getattr(self, name)
            if value not in known:
                raise ValueError(f'unknown {name} {value!r}; known are {list(known)}{did_you_mean(value, known)}')
        if not isinstance(self.block_size, int | np.integer):
            raise TypeError(f'block_size must be an integer, got {self.block_size!r}')
        if self.block_size < 1:
            raise ValueError(f'block_size must be at least 1, got {self.block_size}')
        if self.reranking is not None:
            if self.backend != 'torch':
                raise ValueError(f"re-ranking needs backend='torch', got {self.backend!r}")
            if not isinstance(self.reranking, Mapping):
                raise TypeError(f'reranking must be a dict of settings, got {self.reranking!r}')
            check_settings('reranking', self.reranking, RerankedSearch)
        if self.backend == 'faiss':
            deep = [measure.key for measure in measures if float('inf') in (measure.every, measure.nearest)]
            if deep:
                raise ValueError(
                    f"{deep} need the ranks of all positives, faiss finds the nearest only: use backend='torch'"
                )

    @classmethod
    def of(cls, options: 'SearchOptions | None', changes: Mapping[str, Any]) -> 'SearchOptions':
        """Options with some changes by name; None stands for the defaults.

        Raises:
            TypeError: if there is no option of a name; names those that are near.
        """
        known = [field.name for field in fields(cls)]
        for name in changes:
            if name not in known:
                raise TypeError(f'there is no option {name!r}; known are {known}{did_you_mean(name, known)}')
        return replace(options or cls(), **changes)

    @cached_property
    def measures(self) -> list[Measure]:
        """What ``metrics`` and ``recall_at`` name."""
        return parse_measures(self.metrics, self.recall_at)

    def as_dict(self) -> dict[str, Any]:
        """Options by name, as JSON can hold them."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}


CHOICES: dict[str, Sequence[str]] = {
    'distance': tuple(DISTANCES),
    'ties': TIES,
    'no_positive': NO_POSITIVE,
    'backend': tuple(SEARCHES),
}
