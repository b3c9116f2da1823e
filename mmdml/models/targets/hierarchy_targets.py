"""Targets of a hierarchy of classes."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from mmdml.registry import TASK_UTILS
from mmdml.structures.label_relations import common_levels, hierarchy_codes
from mmdml.utils.numbers import are_numbers

from .base import ColumnTargets, column_of


@TASK_UTILS.register_module()
class HierarchyTargets(ColumnTargets):
    r"""The share of levels that two images have in common, from the coarsest down to the class.

    Barz and Denzler, WACV 2019, Eq. 1 and 2, for hierarchies whose classes are all equally deep: with V levels, the
    class the last, and c levels in common from the top,

    .. math:: t = c / V

    so two apples of different sorts have 1/2 in a hierarchy of kinds and sorts. A loss must be able to use soft
    targets; ``values`` of 0 and 1 alone serve any.

    Args:
        levels: columns of the training set from the coarsest level on, the class itself left out.
        values: targets in [0, 1] for 0, 1, ..., V levels in common, rising. Default: ``c / V``.

    Raises:
        ValueError: for no level, or values that do not fit; before training, if the training set lacks a column.

    Config::

        head=dict(targets=dict(type='HierarchyTargets', levels=['coarse'], values=[0, 0.3, 1]))
    """

    def __init__(self, levels: Sequence[str], values: Sequence[float] | None = None) -> None:
        super().__init__()
        levels = (levels,) if isinstance(levels, str) else tuple(levels)
        if not levels:
            raise ValueError('HierarchyTargets needs at least one column in levels')
        depth = len(levels) + 1
        values = [number / depth for number in range(depth + 1)] if values is None else values
        rise = are_numbers(values) and len(values) == depth + 1 and list(values) == sorted(values)
        if not rise or values[0] < 0 or values[-1] > 1:
            raise ValueError(
                f'values must be {depth + 1} rising numbers in [0, 1], for 0 to {depth} levels in common, got '
                f'{values!r}'
            )
        self.levels = levels
        self.values = list(values)

    def read_columns(self, labels: np.ndarray, columns: Mapping[str, np.ndarray]) -> None:
        """Keep the branches of the hierarchy that each image is in."""
        names = [column_of(columns, name, 'HierarchyTargets') for name in self.levels]
        self._codes = hierarchy_codes([*names, labels])
        self._is_ready = True

    def between(self, left: Tensor, right: Tensor) -> Tensor:
        self._codes = codes = self._codes.to(left.device)
        values = torch.tensor(self.values, dtype=torch.float32, device=left.device)
        return values[common_levels(codes[left], codes[right])]
