"""Which scores of rows reach bounds: by numpy on the CPU, whose sorts use wide vectors, and by torch elsewhere."""

import numpy as np
import torch
from torch import Tensor

#: Scores in a row that are looked at together: most such chunks hold none that reaches a bound.
CHUNK = 32
# Rows with like numbers of chunks that are sorted at once.
_ROWS_AT_ONCE = 128
# To sort a row costs as much as to compare it with so many windows.
_SORT = 8
# Scores that are compared together on an accelerator; bounds memory.
_ENTRIES_AT_ONCE = 2**24


def sort_falling(values: Tensor, stable: bool = False) -> tuple[Tensor, Tensor]:
    """``(Q, P)`` sorted rows, and the places they were at; stable: equal values stay in order."""
    if values.device.type != 'cpu':
        return values.sort(1, descending=True, stable=stable)
    order = torch.from_numpy(np.argsort(-values.numpy(), axis=1, kind='stable' if stable else None))
    return values.gather(1, order), order


def count_reaching(
    scores: Tensor, maxima: Tensor, known: Tensor, bounds: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    """How many scores of its row reach each bound: the chunks that hold such scores are sorted.

    Args:
        scores: ``(Q, L)``.
        maxima: ``(Q, L / CHUNK)`` of their chunks.
        known: ``(Q, P)`` bool, which bounds matter, the first of each row.
        bounds: the lower and the higher ``(Q, P)``.

    Returns:
        ``(Q, P)`` int64 for the lower and the higher bounds; 0 for those that do not matter.
    """
    chunks = scores.unflatten(1, (-1, CHUNK))
    counts = tuple(torch.zeros(known.shape, dtype=torch.int64, device=known.device) for _ in bounds)
    cut = bounds[0].masked_fill(~known, float('inf')).amin(1, keepdim=True)
    hits = (maxima >= cut).sum(1)
    hit, order = hits.sort()
    first = int((hit == 0).sum())
    for start in range(first, len(order), _ROWS_AT_ONCE):
        rows = order[start : start + _ROWS_AT_ONCE]
        number, width = int(hits[rows[-1]]), int(known[rows].sum(1).max())
        if number < maxima.shape[1] / 2:
            highest = maxima[rows].topk(number, dim=1, sorted=False).indices
            values = chunks[rows[:, None], highest].flatten(1)
        else:
            values = scores[rows]
        values = torch.from_numpy(np.sort(values.numpy(), axis=1)) if values.device.type == 'cpu' else values.sort(1)[0]
        for count, bound in zip(counts, bounds, strict=True):
            below = torch.searchsorted(values, bound[rows, :width].contiguous())
            count[rows, :width] = (values.shape[1] - below).masked_fill(~known[rows, :width], 0)
    return counts


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
