"""What a protocol is given, and what it gives."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

#: Values of a role.
BOTH, QUERY, GALLERY = 0, 1, 2

Keys = Tensor | np.ndarray | Sequence[int] | Sequence[str]


@dataclass(frozen=True)
class RowFacts:
    """What is known of the N images of a test set, beside their embeddings.

    Attributes:
        labels: ``(N,)`` integers or strings.
        roles: ``(N,)`` of 0 (query and gallery), 1 (query) or 2 (gallery).
        ids: ``(N,)`` integers or strings; rows of one id are the same image, which never finds itself.
        groups: ``(N,)`` integers or strings, such as cameras; None: there are none.
        parts: ``(N,)`` integers or strings, the part of the test set that a row belongs to; None: there is one.
    """

    labels: np.ndarray
    roles: np.ndarray
    ids: np.ndarray
    groups: np.ndarray | None = None
    parts: np.ndarray | None = None

    @classmethod
    def of(
        cls,
        labels: Keys,
        roles: Keys | None = None,
        ids: Keys | None = None,
        groups: Keys | None = None,
        parts: Keys | None = None,
    ) -> 'RowFacts':
        """Facts as vectors of one length.

        Args:
            labels: ``(N,)``.
            roles: ``(N,)``. Default: all 0.
            ids: ``(N,)``. Default: every row is an image of its own.
            groups: ``(N,)`` or None.
            parts: ``(N,)`` or None.

        Raises:
            ValueError: if there are no rows, a length differs, or a role is unknown.
        """
        labels = _vector(labels)
        if labels.ndim != 1 or len(labels) == 0:
            raise ValueError(f'labels must be a vector of at least one entry, got shape {labels.shape}')
        facts = cls(
            labels,
            np.zeros(len(labels), np.int64) if roles is None else _vector(roles),
            np.arange(len(labels)) if ids is None else _vector(ids),
            None if groups is None else _vector(groups),
            None if parts is None else _vector(parts),
        )
        for field in fields(cls):
            value = getattr(facts, field.name)
            if value is not None and value.shape != labels.shape:
                raise ValueError(f'{field.name} must have shape {labels.shape}, one per label, got {value.shape}')
        unknown = np.setdiff1d(facts.roles, (BOTH, QUERY, GALLERY))
        if len(unknown):
            raise ValueError(f'roles must be 0 (both), 1 (query) or 2 (gallery), got {unknown[:5].tolist()}')
        return facts

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: np.ndarray) -> 'RowFacts':
        """The facts of some rows."""
        known = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(self, **{name: value[rows] for name, value in known.items() if value is not None})


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


#: Who searches whom in a test set.
Protocol = Callable[[RowFacts], Iterable[Split]]


def _vector(values: Any) -> np.ndarray:
    return np.asarray(values.detach().cpu() if isinstance(values, Tensor) else values)
