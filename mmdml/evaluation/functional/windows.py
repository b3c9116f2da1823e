"""Which scores lie in windows of their row: by numpy on the CPU, whose sorts use wide vectors, else by torch."""

import numpy as np
import torch
from torch import Tensor

# To sort a row costs as much as to compare it with so many windows.
_SORT = 8
# Scores that are compared together on an accelerator; bounds memory.
_ENTRIES_AT_ONCE = 2**24


def find_within(scores: Tensor, rows: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Which scores lie in windows of their row.

    Args:
        scores: ``(Q, L)``.
        rows: ``(n,)`` row of each window, rising.
        low: ``(n,)`` its lower end, which belongs to it.
        high: ``(n,)`` its upper end, which does not.

    Returns:
        ``(m,)`` number of the window, and ``(m,)`` column of the score.
    """
    numbers, columns = [], []
    if scores.device.type != 'cpu':
        for part in torch.arange(len(rows), device=rows.device).split(max(1, _ENTRIES_AT_ONCE // scores.shape[1])):
            values = scores[rows[part]]
            inside = (values >= low[part, None]) & (values < high[part, None])
            number, column = inside.nonzero().unbind(1)
            numbers.append(number + part[0])
            columns.append(column)
        return torch.cat(numbers), torch.cat(columns)

    used, count = torch.unique_consecutive(rows, return_counts=True)
    stop = 0
    matrix, low, high = scores.numpy(), low.numpy(), high.numpy()
    for row, windows in zip(used.tolist(), count.tolist(), strict=True):
        values, start, stop = matrix[row], stop, stop + windows
        if windows > _SORT:
            order = np.argsort(values)
            values = values[order]
            first, last = (np.searchsorted(values, bounds[start:stop]) for bounds in (low, high))
            sizes = last - first
            numbers.append(np.repeat(np.arange(start, stop), sizes))
            columns.append(order[np.arange(sizes.sum()) + np.repeat(first - (sizes.cumsum() - sizes), sizes)])
            continue
        for window in range(start, stop):
            columns.append(np.flatnonzero((values >= low[window]) & (values < high[window])))
            numbers.append(np.full(len(columns[-1]), window))
    return torch.from_numpy(np.concatenate(numbers)), torch.from_numpy(np.concatenate(columns))
