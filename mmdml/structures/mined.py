"""What miners return: tuples of anchors and candidates."""

from typing import NamedTuple

import torch
from torch import Tensor


class Pairs(NamedTuple):
    """Mined pairs: index tensors of equal length; repeats are allowed and add up.

    Attributes:
        anchor: ``(P,)`` rows of ``PairBatch.anchors``.
        candidate: ``(P,)`` rows of ``PairBatch.candidates``.
        weight: ``(P,)`` non-negative weights, or None for ones.
    """

    anchor: Tensor
    candidate: Tensor
    weight: Tensor | None = None


class Triplets(NamedTuple):
    """Mined triplets: index tensors of equal length; repeats are allowed and add up.

    Attributes:
        anchor: ``(T,)`` rows of ``PairBatch.anchors``.
        positive: ``(T,)`` rows of ``PairBatch.candidates``, same class as the anchor.
        negative: ``(T,)`` rows of ``PairBatch.candidates``, another class.
    """

    anchor: Tensor
    positive: Tensor
    negative: Tensor

    @classmethod
    def none(cls, device: torch.device | str | None = None) -> 'Triplets':
        """No triplets, on a device."""
        nothing = torch.empty(0, dtype=torch.int64, device=device)
        return cls(nothing, nothing, nothing)


#: Index tuples, or a dense ``(A, X)`` mask or matrix of non-negative weights.
Mined = Pairs | Triplets | Tensor
