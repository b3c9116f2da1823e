"""Slices of the embedding, one a learner."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .rows import unit_length


class ActiveLearner(NamedTuple):
    """The learner that a batch trains.

    Attributes:
        index: which one.
        of: how many learners there are.
        scale: ``(D,)`` factor that it puts on raw embeddings before it normalizes: 0 and 1 for slices, ``relu(m_k)``
            for masks; without gradient.
    """

    index: int
    of: int
    scale: Tensor


class Partition:
    """Consecutive, disjoint slices that cover the embedding (D&C, CVPR 2019, Sec. 3.2).

    ``S_k`` has ``ceil(D / K)`` neurons for the first ``D mod K`` slices and ``floor(D / K)`` for the others. One
    partition serves initialization, normalization, loss, checkpoint and export.

    Args:
        dim: D, width of the embedding.
        num_parts: K, number of slices, at most D.

    Attributes:
        sizes: width of each slice.
        slices: the slices themselves, for indexing neurons.

    Raises:
        ValueError: if ``num_parts`` is not in 1..D.
    """

    def __init__(self, dim: int, num_parts: int) -> None:
        if not 1 <= num_parts <= dim:
            raise ValueError(
                f'num_parts must be in 1..{dim}, every learner needs one of the {dim} dimensions, got {num_parts}'
            )
        width, longer = divmod(dim, num_parts)
        self._set([width + (part < longer) for part in range(num_parts)])

    def _set(self, sizes: Sequence[int]) -> None:
        self.sizes: tuple[int, ...] = tuple(sizes)
        ends = [sum(sizes[: part + 1]) for part in range(len(sizes))]
        self.slices: tuple[slice, ...] = tuple(
            slice(end - size, end) for end, size in zip(ends, self.sizes, strict=True)
        )

    @property
    def dim(self) -> int:
        """D, width of the embedding."""
        return sum(self.sizes)

    def __len__(self) -> int:
        return len(self.sizes)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Partition) and self.sizes == other.sizes

    def __hash__(self) -> int:
        return hash(self.sizes)

    def __repr__(self) -> str:
        return f'Partition(sizes={self.sizes})'

    def merged(self, num_groups: int) -> 'Partition':
        """Return the same neurons in fewer, wider slices, for a hierarchy that has not reached K yet.

        Slice g joins the slices ``g K / G .. (g + 1) K / G - 1``, so that slice g of G is made of slices 2g and 2g + 1
        of 2G. Where K does not divide D, the joint slices may differ by more than one.

        Args:
            num_groups: G, a divisor of K.

        Raises:
            ValueError: if ``num_groups`` is no divisor of K.
        """
        if num_groups < 1 or len(self) % num_groups:
            raise ValueError(f'num_groups must divide the {len(self)} slices, got {num_groups}')
        each = len(self) // num_groups
        merged = object.__new__(Partition)
        merged._set([sum(self.sizes[first : first + each]) for first in range(0, len(self), each)])
        return merged

    def split(self, tensor: Tensor) -> list[Tensor]:
        """``(..., D)`` -> K views ``(..., |S_k|)``.

        Raises:
            ValueError: if the last dimension is not D.
        """
        if tensor.ndim == 0 or tensor.shape[-1] != self.dim:
            raise ValueError(f'the last dimension must be {self.dim}, got shape {tuple(tensor.shape)}')
        return list(tensor.split(self.sizes, dim=-1))

    def unit_slices(self, z: Tensor) -> list[Tensor]:
        """``e_k = z[:, S_k] / ||z[:, S_k]||``: raw ``(..., D)`` -> K unit tensors, in fp32 or better.

        A zero slice stays zero, and gets no gradient.

        Raises:
            ValueError: if the last dimension is not D.
        """
        z = z if z.dtype.itemsize >= 4 else z.float()
        return [unit_length(part) for part in self.split(z)]

    def unit(self, z: Tensor) -> Tensor:
        """Return the merged embedding ``concat(e_1 .. e_K) / sqrt(K)``: raw ``(..., D)`` -> unit ``(..., D)``.

        The cosine of two merged embeddings is the mean of their K slice cosines: every learner has one vote. The norm
        is 1 unless a slice is zero.

        Raises:
            ValueError: if the last dimension is not D.
        """
        return torch.cat(self.unit_slices(z), dim=-1) / math.sqrt(len(self))
