"""Runs of scores that are too close to tell apart, and their order by finer scores."""

from typing import NamedTuple

import torch
from torch import Tensor

from .ranks import FAR, Scores, sort_falling


class PairScores(NamedTuple):
    """Scores of single pairs.

    Attributes:
        exact: that decide.
        in_double: from products in fp64; None where those of the block are.
        window: ``(Q, 1)``; scores ``in_double`` that differ by more are in their exact order.
    """

    exact: Scores
    in_double: Scores | None = None
    window: Tensor | None = None

    def of(self, rows: Tensor) -> 'PairScores':
        """Return the same for some rows of the block ``(r,)``."""
        exact, in_double, window = self
        return PairScores(
            lambda own, columns: exact(rows[own], columns),
            None if in_double is None else lambda own, columns: in_double(rows[own], columns),
            None if window is None else window[rows],
        )


def mixed_neighbors(scores: Tensor, positive: Tensor, window: Tensor, at_depth: Tensor) -> Tensor:
    """``(Q, K - 1)`` bool: a positive and a negative next to each other, too close to tell, and not too deep."""
    above, below = scores[:, :-1], scores[:, 1:]
    mixed = positive[:, :-1] != positive[:, 1:]
    mixed &= above - below <= window
    mixed &= below > FAR
    return mixed & (above >= at_depth - 2 * window)


def close_runs(scores: Tensor, mixed: Tensor, window: Tensor) -> Tensor:
    """``(r, K)`` bool: all scores in runs of close neighbors that hold a mixed pair."""
    apart = ~((scores[:, :-1] - scores[:, 1:] <= window) & (scores[:, 1:] > FAR))
    run = torch.nn.functional.pad(apart.cumsum(1), (1, 0))
    chosen = torch.zeros_like(run, dtype=torch.bool)
    chosen.scatter_(1, run[:, 1:].masked_fill(~mixed, 0), mixed)
    chosen[:, 0] = (mixed & (run[:, 1:] == 0)).any(1)
    return chosen.gather(1, run)


class Places:
    """Places whose scores are put in a finer order.

    Args:
        rows: ``(r,)`` rows of the block.
        inside: ``(r, K)`` bool, the places in each.
        positive: ``(Q, K)`` bool, which places hold positives.
    """

    def __init__(self, rows: Tensor, inside: Tensor, positive: Tensor) -> None:
        self.own, self.place = inside.nonzero().unbind(1)
        self.row = rows[self.own]
        count = inside.sum(1)
        self.within = torch.arange(len(self.own), device=rows.device) - (count.cumsum(0) - count)[self.own]
        self.shape = len(rows), int(count.max())
        self.kinds = torch.zeros(self.shape, dtype=torch.bool, device=rows.device)
        self.kinds[self.own, self.within] = positive[self.row, self.place]

    def pairs(self, columns: Tensor) -> tuple[Tensor, Tensor]:
        """Rows of the block, and gallery columns, of the places."""
        return self.row, columns[self.row, self.place]

    def lay_out(self, values: Tensor) -> Tensor:
        """``(r, M)`` values of the places, -inf for padding."""
        laid_out = values.new_full(self.shape, FAR)
        laid_out[self.own, self.within] = values
        return laid_out

    def _written(self, flags: Tensor, kinds: Tensor) -> Tensor:
        flags = flags.clone()
        flags[self.row, self.place] = kinds[self.own, self.within]
        return flags

    def reorder(self, flags: Tensor, values: Tensor, window: Tensor) -> tuple[Tensor, Tensor]:
        """Sort ``flags (Q, K)`` by the values; also ``(r,)`` bool, where that may be wrong within a window."""
        values, order = sort_falling(values)
        kinds = self.kinds.gather(1, order)
        close = (values[:, :-1] - values[:, 1:] <= window) & (kinds[:, 1:] != kinds[:, :-1])
        return self._written(flags, kinds), close.any(1)

    def reorder_with_ties(self, flags: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Sort ``flags (Q, K)`` by exact values, twice: positives last among equal ones, and first."""
        in_order, tied = self.reorder(flags, values, values.new_zeros(()))
        if not bool(tied.any()):
            return in_order, in_order
        found = []
        for positives_first in (False, True):
            first = (self.kinds != positives_first).int().sort(dim=1, stable=True).indices
            order = sort_falling(values.gather(1, first), stable=True)[1]
            found.append(self._written(flags, self.kinds.gather(1, first).gather(1, order)))
        return found[0], found[1]
