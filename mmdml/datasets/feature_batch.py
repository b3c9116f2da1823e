"""Batches of features that are fetched at once, and the collate function that passes them on."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mmdml.registry import FUNCTIONS


class FeatureSamples(Sequence):
    """Data samples of a batch of features: labels and indices as arrays, samples made when one is taken.

    Args:
        labels: ``(B,)`` int64.
        indices: ``(B,)`` int64 dataset indices.
        facts: B values by name, such as ``img_path`` and ``role``.
    """

    def __init__(self, labels: Tensor, indices: Tensor, facts: dict[str, Sequence]) -> None:
        self.labels, self.indices, self.facts = labels, indices, facts

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, number: int) -> Any:
        from mmpretrain.structures import DataSample

        known = {name: values[number] for name, values in self.facts.items()}
        sample = DataSample(metainfo=dict(sample_idx=int(self.indices[number]), **known))
        return sample.set_gt_label(int(self.labels[number]))


class FeatureBatch(dict):
    """A whole batch, which a loader that takes it for a list of items cannot collate."""

    def __missing__(self, key: Any) -> Any:
        if isinstance(key, int):
            raise ValueError(
                'FeatureFile makes whole batches, which this collate_fn takes for lists; the loader needs '
                "collate_fn=dict(type='mmdml.collate_features')"
            )
        raise KeyError(key)


@FUNCTIONS.register_module()
def collate_features(batch: dict[str, Any] | list[dict[str, Any]]) -> dict[str, Any]:
    """Return a batch of a :class:`FeatureFile` as it is; make one of the items of a concatenation."""
    if isinstance(batch, dict):
        return batch
    return dict(
        inputs=torch.stack([item['inputs'] for item in batch]), data_samples=[item['data_samples'] for item in batch]
    )
