"""How much two images have in common by more than one class label: levels of a hierarchy, sets of labels."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


class LabelSets(NamedTuple):
    """Several labels an image, each with a weight.

    Attributes:
        names: L distinct labels.
        members: ``(N, M)`` int64 positions in ``names``, M being the largest number of labels of an image; -1 fills up.
        weights: ``(N, M)`` float32 above 0, 0 at the unused places.
    """

    names: list[str]
    members: Tensor
    weights: Tensor

    def dense(self, rows: Tensor) -> Tensor:
        """``(R,)`` numbers of images -> ``(R, L)`` weights of their labels."""
        members, weights = self.members[rows], self.weights[rows]
        return weights.new_zeros(len(rows), len(self.names)).scatter_add_(1, members.clamp_min(0), weights)

    def to(self, device: torch.device) -> 'LabelSets':
        """Return the same sets on a device."""
        return self._replace(members=self.members.to(device), weights=self.weights.to(device))


def read_label_sets(cells: Sequence, column: str = 'labels') -> LabelSets:
    """Read a column of label sets: ``cat|indoor``, or with weights ``cat=0.7|dog=0.3``; an empty cell has no label.

    Args:
        cells: N texts or whole numbers.
        column: name of the column, for messages.

    Raises:
        ValueError: if a weight is not positive, a label stands twice in a cell, or no cell has a label.
    """
    position: dict[str, int] = {}
    known: dict[str, list[tuple[int, float]]] = {}
    for cell in dict.fromkeys(map(str, cells)):
        labels = [read_label(part, column, cell) for part in cell.split('|') if part.strip()]
        if len({name for name, _ in labels}) < len(labels):
            raise ValueError(f'column {column!r}: a label stands twice in {cell!r}')
        known[cell] = [(position.setdefault(name, len(position)), weight) for name, weight in labels]
    if not position:
        raise ValueError(f'column {column!r} has no label in any of {len(cells)} images')
    width = max(map(len, known.values()))
    filled = {cell: labels + [(-1, 0.0)] * (width - len(labels)) for cell, labels in known.items()}
    table = np.array([filled[str(cell)] for cell in cells], dtype=np.float64)
    members, weights = torch.from_numpy(table).unbind(2)
    return LabelSets(list(position), members.long(), weights.float())


def read_label(text: str, column: str, cell: str) -> tuple[str, float]:
    """Name and weight of one label of a cell: ``cat=0.7``, or ``cat`` of weight 1.

    Raises:
        ValueError: if a weight is not positive.
    """
    name, equals, weight = text.strip().rpartition('=')
    try:
        number = float(weight) if equals else 1.0
    except ValueError:
        return text.strip(), 1.0
    if not equals:
        return weight, 1.0
    if not 0 < number < float('inf'):
        raise ValueError(f'column {column!r}: the weight of {name!r} in {cell!r} must be positive')
    return name.strip(), number


def _jaccard(left: Tensor, right: Tensor) -> Tensor:
    # min(a, b) = (a + b - |a - b|) / 2, max(a, b) = (a + b + |a - b|) / 2
    both = left.sum(1)[:, None] + right.sum(1)[None, :]
    apart = torch.cdist(left, right, p=1)
    return (both - apart).clamp_min(0) / (both + apart).masked_fill(both == 0, 1)


def _any(left: Tensor, right: Tensor) -> Tensor:
    return (left @ right.t() > 0).to(left.dtype)


def _product(left: Tensor, right: Tensor) -> Tensor:
    return (left @ right.t()).clamp_max(1)


#: How much two sets of labels have in common, of ``(R, L)`` and ``(S, L)`` weights, ``(R, S)`` in [0, 1]: 'jaccard',
#: the sum of the smaller weights over the sum of the larger ones (the share of common labels for weights of 1); 'any',
#: 1 for a label in common; 'product', the probability that a draw from each agrees, of weights that sum to 1.
SET_MEASURES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {'jaccard': _jaccard, 'any': _any, 'product': _product}


def hierarchy_codes(levels: Sequence[np.ndarray]) -> Tensor:
    """Assign numbers to the branches of a hierarchy.

    Args:
        levels: ``(N,)`` integers or texts each, from the coarsest to the finest level.

    Returns:
        ``(N, V)`` int64; two images agree in column v exactly if they agree in levels 0 to v.
    """
    codes: list[np.ndarray] = []
    for names in levels:
        _, own = np.unique(np.asarray(names), return_inverse=True)
        if codes:
            _, own = np.unique(np.stack([codes[-1], own]), axis=1, return_inverse=True)
        codes.append(own.reshape(-1))
    return torch.from_numpy(np.stack(codes, axis=1))


def common_levels(left: Tensor, right: Tensor) -> Tensor:
    """Count the levels in common: ``(R, V)`` and ``(S, V)`` codes of :func:`hierarchy_codes` -> ``(R, S)`` int64."""
    number = torch.zeros(len(left), len(right), dtype=torch.int64, device=left.device)
    for own, other in zip(left.unbind(1), right.unbind(1), strict=True):
        number += own[:, None] == other[None, :]
    return number
