"""What every store checks before it does anything."""

from collections.abc import Collection, Sequence

import numpy as np

from mmdml.index.vector_store import COLUMNS, Item, Where


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
    """Check that there are as many items as rows, each path once, and that their metadata are texts by other names.

    Raises:
        ValueError: otherwise.
    """
    if len(items) != number:
        raise ValueError(f'{number} vectors need as many items, got {len(items)}')
    seen: set[str] = set()
    for item in items:
        if item.path in seen:
            raise ValueError(f'the path {item.path!r} comes twice in one call; a store holds each path once')
        seen.add(item.path)
        for name, value in item.metadata.items():
            if name in COLUMNS or not isinstance(value, str):
                reason = 'rows have that column already' if name in COLUMNS else 'metadata are texts'
                raise ValueError(f'metadata {name}={value!r} of {item.path!r}: {reason}')


def check_where(where: Where | None, names: Collection[str]) -> dict[str, list[str | int]]:
    """Return columns and the values that are allowed, each in a list.

    Args:
        where: as :meth:`VectorStore.search` has it.
        names: of the metadata in the store.

    Raises:
        ValueError: there is no such column, or a size is no number.
    """
    checked = {}
    for column, values in (where or {}).items():
        if column not in COLUMNS and column not in names:
            raise ValueError(f'where names the column {column!r}; there are {", ".join((*COLUMNS, *sorted(names)))}')
        given = [values] if isinstance(values, str | int) else list(values)
        try:
            checked[column] = [int(each) if column == 'size' else str(each) for each in given]
        except ValueError:
            raise ValueError(f'where compares size with {given!r}; a size is a number of bytes') from None
    return checked
