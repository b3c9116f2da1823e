"""From the terms of a loss to a scalar."""

from collections.abc import Callable

import torch
from torch import Tensor


def _sum_per_anchor(terms: Tensor, weight: Tensor, num_anchors: int) -> Tensor:
    return terms.sum() / max(num_anchors, 1)


def _mean_per_term(terms: Tensor, weight: Tensor, num_anchors: int) -> Tensor:
    total = weight.sum()
    return terms.sum() / torch.where(total > 0, total, torch.ones_like(total))


def _mean_per_active_term(terms: Tensor, weight: Tensor, num_anchors: int) -> Tensor:
    return _mean_per_term(terms, weight * (terms > 0), num_anchors)


#: name -> function of the weighted terms, their weights (zero: no term) and the number of anchors. 'paper' grows with
#: the number of candidates, 'mean' and 'nonzero', the mean over the terms above 0, do not.
REDUCTIONS: dict[str, Callable[[Tensor, Tensor, int], Tensor]] = {
    'paper': _sum_per_anchor,
    'mean': _mean_per_term,
    'nonzero': _mean_per_active_term,
}


def get_reduction(name: str) -> Callable[[Tensor, Tensor, int], Tensor]:
    """Return the reduction of that name.

    Raises:
        ValueError: if there is none.
    """
    if name not in REDUCTIONS:
        raise ValueError(f'reduction must be one of {sorted(REDUCTIONS)}, got {name!r}')
    return REDUCTIONS[name]
