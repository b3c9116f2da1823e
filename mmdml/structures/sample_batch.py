"""Labels and dataset indices of a batch's data samples, one by one or as arrays."""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor


@runtime_checkable
class SampleBatch(Protocol):
    """Data samples of a batch that have their labels and indices at hand, so that nobody has to open each of them.

    Attributes:
        labels: ``(B,)`` int64 class ids.
        indices: ``(B,)`` int64 dataset indices.
    """

    labels: Tensor
    indices: Tensor


def labels_of(samples: Sequence[Any]) -> Tensor | None:
    """``(B,)`` class ids of data samples; None if one of them has no ``gt_label``, or there are none."""
    if isinstance(samples, SampleBatch):
        return samples.labels
    if not samples or any('gt_label' not in sample for sample in samples):
        return None
    return torch.cat([sample.gt_label for sample in samples])


def indices_of(samples: Sequence[Any]) -> Tensor:
    """``(B,)`` dataset indices of data samples, -1 where unknown."""
    if isinstance(samples, SampleBatch):
        return samples.indices
    return torch.tensor([sample.get('sample_idx', -1) for sample in samples], dtype=torch.int64)
