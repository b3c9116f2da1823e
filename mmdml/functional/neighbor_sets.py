"""Sets of neighbors as sparse matrices."""

from collections.abc import Iterator

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

#: Pairs of rows whose entries of V are compared at once: 80 MB of indices and values.
_PAIRS = 2**21
#: Rows whose reciprocal sets are made at once.
_ROWS = 2**14


def indicator(columns: np.ndarray, dtype: np.dtype | type) -> sparse.csr_array:
    """``(N, N)`` with a 1 in the given columns ``(N, k)`` of each row."""
    rows, k = columns.shape
    starts = np.arange(0, rows * k + 1, k)
    return sparse.csr_array((np.ones(rows * k, dtype), columns.reshape(-1), starts), shape=(rows, rows))


def _reciprocal(neighbors: np.ndarray) -> sparse.csr_array:
    """R(p, k) for all p: ``(N, N)`` with a 1 where two rows are neighbors of each other; symmetric."""
    nearest = indicator(neighbors, np.int32)
    return nearest.multiply(nearest.T.tocsr()).tocsr()


def expanded_sets(neighbors: np.ndarray, k1: int) -> Iterator[tuple[int, sparse.coo_array]]:
    """R*(p, k1) from the nearest neighbors ``(N, k)``, itself first: first row of a part, and its sets ``(n, N)``."""
    reciprocal = _reciprocal(neighbors[:, : k1 + 1])
    # Halves are rounded to even, as in the authors' code.
    half = _reciprocal(neighbors[:, : round(k1 / 2) + 1])
    half_sizes = np.diff(half.indptr)
    for start in range(0, len(neighbors), _ROWS):
        sets = reciprocal[start : start + _ROWS]
        # R(q, k1 / 2) is a row of `half` and, as reciprocity is symmetric, also a column.
        common = (sets @ half).multiply(sets).tocsr()
        common.data = (3 * common.data > 2 * half_sizes[common.indices]).astype(common.dtype)
        common.eliminate_zeros()
        yield start, (sets + common @ half).tocoo()


def to_tensors(matrix: sparse.csr_array | sparse.csc_array, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Return starts, places and values of a compressed matrix."""
    starts, places = matrix.indptr.astype(np.int64), matrix.indices.astype(np.int64)
    return tuple(torch.from_numpy(array).to(device) for array in (starts, places, matrix.data))


def add_shared(
    shared: Tensor, entries: tuple[Tensor, Tensor, Tensor], by_column: tuple[Tensor, Tensor, Tensor]
) -> None:
    """Add min(V_{q,j}, V_{g,j}) over j to ``shared (B, G)``.

    Args:
        shared: changed in place.
        entries: rows q, columns j and values of V of the queries.
        by_column: starts of the columns of V of the gallery, and their rows g and values.
    """
    owners, columns, values = entries
    starts, rows, others = by_column
    # Entry (q, j) meets all gallery rows with an entry in column j.
    counts = starts[columns + 1] - starts[columns]
    parts = ((counts.cumsum(0) - counts) // _PAIRS).unique_consecutive(return_counts=True)[1].tolist()
    pieces = (tensor.split(parts) for tensor in (owners, columns, values, counts))
    for owner, column, value, count in zip(*pieces, strict=True):
        entry = torch.repeat_interleave(count)
        within = torch.arange(len(entry), device=entry.device) - (count.cumsum(0) - count)[entry]
        place = starts[column][entry] + within
        least = torch.minimum(value[entry], others[place])
        shared.view(-1).index_add_(0, owner[entry] * shared.shape[1] + rows[place], least)
