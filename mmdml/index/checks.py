"""What every store checks before it does anything."""

import os
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from mmdml.index.vector_store import COLUMNS, Item, Where
from mmdml.utils.numbers import is_number, is_whole
from mmdml.utils.tables import whole_number

# Sizes and ids are whole numbers of 64 bits in every store.
_MOST = 2**63 - 1
# Names of files and folders are any bytes, which Python keeps in texts so.
_ANY_NAME = 'surrogateescape'
_TEXTS = dict(path=_ANY_NAME, label=_ANY_NAME, content_hash='strict')


def check_vectors(vectors: np.ndarray, dimensions: int) -> np.ndarray:
    """Return unit rows as a contiguous float32 matrix.

    Args:
        vectors: ``(N, D)`` rows; lengths may differ from 1 by 0.001, as half precision leaves them.
        dimensions: D.

    Raises:
        ValueError: another shape, or rows that are not finite or not of length 1.
    """
    vectors = np.ascontiguousarray(vectors, dtype=np.float32)
    if vectors.ndim != 2 or vectors.shape[1] != dimensions:
        raise ValueError(f'the store holds vectors of {dimensions} dimensions, got shape {vectors.shape}')
    lengths = np.linalg.norm(vectors, axis=1)
    bad = np.flatnonzero(~(np.abs(lengths - 1) <= 1e-3))
    if len(bad):
        raise ValueError(
            f'{len(bad)} of {len(vectors)} vectors are not of length 1, e.g. row {bad[0]} with {lengths[bad[0]]:.4g}; '
            'divide each by its norm; points of a hyperbolic model cannot be stored'
        )
    return vectors


def check_items(items: Sequence[Item], number: int) -> None:
    """Check that there are as many items as rows, each path once, and that each has texts and numbers where it should.

    Raises:
        ValueError: otherwise.
    """
    if len(items) != number:
        raise ValueError(f'{number} vectors need as many items, got {len(items)}')
    seen: set[str] = set()
    for item in items:
        for column, errors in _TEXTS.items():
            if not _is_text(getattr(item, column), errors):
                raise ValueError(f'{column}={getattr(item, column)!r} of {item.path!r}: must be a text')
        if not is_whole(item.size) or not 0 <= item.size <= _MOST:
            raise ValueError(f'size={item.size!r} of {item.path!r}: must be a whole number of bytes')
        if item.path in seen:
            raise ValueError(f'the path {item.path!r} comes twice in one call; a store holds each path once')
        seen.add(item.path)
        if not isinstance(item.metadata, Mapping):
            raise ValueError(f'metadata={item.metadata!r} of {item.path!r}: must be texts by name')
        for name, value in item.metadata.items():
            if name in COLUMNS or not (_is_text(name) and _is_text(value, _ANY_NAME)):
                reason = 'rows have that column already' if name in COLUMNS else 'metadata are texts'
                raise ValueError(f'metadata {name}={value!r} of {item.path!r}: {reason}')


def check_ids(ids: Sequence[int]) -> list[int]:
    """Return row ids as numbers of Python.

    Raises:
        ValueError: one is no whole number of 64 bits: a mask of true and false would be the rows 0 and 1.
    """
    given = ids.tolist() if hasattr(ids, 'tolist') else [each.item() if hasattr(each, 'item') else each for each in ids]
    for each in given:
        if isinstance(each, bool):
            raise ValueError('ids must be whole numbers, got a mask; of a mask take ids[mask]')
        # Tables that lack some ids hand on the others as floats.
        if not is_number(each) or abs(each) > _MOST or not float(each).is_integer():
            raise ValueError(f'ids must be whole numbers of 64 bits, got {each!r}')
    return [int(each) for each in given]


def check_k(k: int) -> int:
    """Return the number of neighbors that are wanted.

    Raises:
        ValueError: it is no whole number, or below 1.
    """
    if not is_whole(k) or k < 1:
        raise ValueError(f'k={k!r} must be 1 or more, a whole number')
    return int(k)


def check_where(where: Where | None, names: Collection[str]) -> dict[str, list[str | int]]:
    """Return columns and the values that are allowed, each in a list.

    Args:
        where: as :meth:`VectorStore.search` has it.
        names: of the metadata in the store.

    Raises:
        ValueError: there is no such column, a value is neither text nor whole number, or a size is no number.
    """
    if where and not isinstance(where, Mapping):
        raise ValueError(f"where must be values by column, such as {{'label': 'beech'}}, got {where!r}")
    checked = {}
    for column, values in (where or {}).items():
        if column not in COLUMNS and column not in names:
            raise ValueError(f'where names the column {column!r}; there are {", ".join((*COLUMNS, *sorted(names)))}')
        is_one = isinstance(values, str | bytes) or not np.iterable(values)
        checked[column] = [_allowed(column, each) for each in ([values] if is_one else values)]
    return checked


def check_counted(column: str, names: Collection[str]) -> None:
    """Check that the values of a column can be counted: labels, and metadata of a name.

    Raises:
        ValueError: otherwise.
    """
    check_where({column: []}, names)
    if column in COLUMNS and column != 'label':
        raise ValueError(f'values of {column!r} are not counted, those of {", ".join(["label", *sorted(names)])} are')


def _allowed(column: str, value: Any) -> str | int:
    """Return a value that rows may have in a column: sizes as numbers, all others as texts."""
    if column == 'size':
        size = whole_number(value.strip()) if isinstance(value, str) else value
        if not is_whole(size) or not 0 <= size <= _MOST:
            raise ValueError(f'where compares size with {value!r}; a size is a number of bytes')
        return int(size)
    value = os.fspath(value) if isinstance(value, os.PathLike) else value
    if not is_whole(value) and not _is_text(value, _TEXTS.get(column, _ANY_NAME)):
        raise ValueError(f'where compares {column} with {value!r}, which is no text')
    return str(value)


def _is_text(value: Any, errors: str = 'strict') -> bool:
    """Whether a value is a text in UTF-8; with 'surrogateescape' also a file name of other bytes, as Python has it."""
    try:
        return isinstance(value, str) and value.encode('utf-8', errors) is not None
    except UnicodeEncodeError:
        return False
