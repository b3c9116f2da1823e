"""Searches in rows of scores: by numpy on the CPU, whose sorts use wide vectors, and by torch elsewhere."""

import numpy as np
import torch
from torch import Tensor

# To sort a row costs as much as to compare it with so many numbers.
_SORT = 8
# Scores that are looked at together on an accelerator; bounds memory.
_ENTRIES_AT_ONCE = 2**24


def sort_falling(values: Tensor, stable: bool = False) -> tuple[Tensor, Tensor]:
    """``(Q, P)`` sorted rows, and the places they were at; stable: equal values stay in order."""
    if values.device.type != 'cpu':
        return values.sort(1, descending=True, stable=stable)
    order = torch.from_numpy(np.argsort(-values.numpy(), axis=1, kind='stable' if stable else None))
    return values.gather(1, order), order


def nonzero(mask: Tensor) -> Tensor:
    """Places of a flat mask."""
    return torch.from_numpy(np.flatnonzero(mask.numpy())) if mask.device.type == 'cpu' else mask.nonzero().squeeze(1)


def rows_reaching(scores: Tensor, rows: Tensor, low: Tensor, high: Tensor, number: Tensor) -> tuple[Tensor, Tensor]:
    """How many scores of some rows reach each of two lists of bounds.

    Args:
        scores: ``(Q, L)``.
        rows: ``(r,)`` which.
        low: ``(r, P)``.
        high: ``(r, P)``.
        number: ``(r,)`` bounds that are there in each row, the first ones.

    Returns:
        ``(r, P)`` int64 for ``high`` and for ``low``.
    """
    if scores.device.type != 'cpu':
        return _reaching_by_sort(scores, rows, low, high)
    counts = np.zeros((2, *low.shape), np.int64)
    matrix, bounds = scores.numpy(), np.stack([high.numpy(), low.numpy()])
    for place, (row, known) in enumerate(zip(rows.tolist(), number.tolist(), strict=True)):
        values = matrix[row]
        if known > _SORT:
            counts[:, place, :known] = len(values) - np.searchsorted(np.sort(values), bounds[:, place, :known])
            continue
        for which in range(2):
            for column in range(known):
                counts[which, place, column] = np.count_nonzero(values >= bounds[which, place, column])
    return tuple(torch.from_numpy(counts))


def _reaching_by_sort(scores: Tensor, rows: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    counts: tuple[list[Tensor], list[Tensor]] = ([], [])
    at_once = max(1, _ENTRIES_AT_ONCE // scores.shape[1])
    for part in torch.arange(len(rows), device=rows.device).split(at_once):
        values = scores[rows[part]].sort(1).values
        for found, bounds in zip(counts, (high, low), strict=True):
            found.append(scores.shape[1] - torch.searchsorted(values, bounds[part].contiguous()))
    return torch.cat(counts[0]), torch.cat(counts[1])


def rows_within(scores: Tensor, rows: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Which scores lie in windows of their row.

    Args:
        scores: ``(Q, L)``.
        rows: ``(n,)`` row of each window, rising.
        low: ``(n,)`` its lower end, which belongs to it.
        high: ``(n,)`` its upper end, which does not.

    Returns:
        ``(m,)`` number of the window, and ``(m,)`` column of the score.
    """
    if scores.device.type != 'cpu':
        return _within_by_mask(scores, rows, low, high)
    used, count = torch.unique_consecutive(rows, return_counts=True)
    numbers, columns = [], []
    start = 0
    matrix, low, high = scores.numpy(), low.numpy(), high.numpy()
    for row, windows in zip(used.tolist(), count.tolist(), strict=True):
        values, stop = matrix[row], start + windows
        if windows > _SORT:
            order = np.argsort(values)
            values = values[order]
            first, last = (np.searchsorted(values, bounds[start:stop]) for bounds in (low, high))
            numbers.append(np.repeat(np.arange(start, stop), last - first))
            columns.append(order[_ranges(first, last)])
        else:
            for window in range(start, stop):
                found = np.flatnonzero((values >= low[window]) & (values < high[window]))
                numbers.append(np.full(len(found), window))
                columns.append(found)
        start = stop
    return torch.from_numpy(np.concatenate(numbers)), torch.from_numpy(np.concatenate(columns))


def _ranges(first: np.ndarray, last: np.ndarray) -> np.ndarray:
    """``first, ..., last - 1`` of every pair, one after another."""
    count = last - first
    return np.arange(count.sum()) + np.repeat(first - (count.cumsum() - count), count)


def _within_by_mask(scores: Tensor, rows: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    found = []
    for part in torch.arange(len(rows), device=rows.device).split(max(1, _ENTRIES_AT_ONCE // scores.shape[1])):
        values = scores[rows[part]]
        inside = ((values >= low[part, None]) & (values < high[part, None])).nonzero()
        inside[:, 0] += part[0]
        found.append(inside)
    return torch.cat(found).unbind(1)
