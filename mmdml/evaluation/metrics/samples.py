"""What a metric reads from the samples of a batch."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmdml.dist import all_gather_object
from mmdml.structures.row_facts import QUERY_AND_GALLERY, ROLE_NAMES, image_ids, text_digest


class SampleFields:
    """Embeddings, dataset indices, facts and paths of the samples of a batch.

    Values of further fields that are strings travel as 63-bit digests; this class keeps what they stand for.

    Args:
        groups: field of the groups, such as 'camera'; None: there are none.
        needs_labels: whether an image without a label is an error.
        more: further fields, such as 'coarse'.
    """

    def __init__(self, groups: str | None, needs_labels: bool = True, more: Sequence[str] = ()) -> None:
        self.groups = groups
        self.needs_labels = needs_labels
        self.more = tuple(more)
        #: Whether samples carry ids of their own; None before the first batch.
        self.has_ids: bool | None = None
        self._names: dict[int, str] = {}
        self._kinds: dict[str, bool] = {}

    def read(self, samples: Sequence[dict], has_roles: bool) -> tuple[Tensor, Tensor, Tensor, list[str]]:
        """``(B, D)`` embeddings, ``(B,)`` indices, ``(B, 4 + M)`` facts as the collector keeps them, and B paths.

        Args:
            samples: of a batch.
            has_roles: whether the dataset has queries and a gallery.

        Raises:
            KeyError: if a sample lacks a field.
            ValueError: if an index is negative, a role is unknown, a needed label is missing, or some samples have ids
                and others have none.
            TypeError: if the value of a field is neither an integer nor a string.
        """
        embeddings = torch.stack([_field(sample, 'embedding') for sample in samples])
        index = torch.tensor([int(_field(sample, 'sample_idx')) for sample in samples])
        if int(index.min()) < 0:
            raise ValueError(f'sample_idx must be the index in the data set, got {int(index.min())}')
        if has_roles and 'role' not in samples[0]:
            raise KeyError(
                "the data set has queries and a gallery, but the samples do not carry 'role': "
                "end the pipeline with dict(type='mmpretrain.PackInputs', meta_keys=('sample_idx', 'img_path', 'role'))"
            )
        roles = [int(sample.get('role', QUERY_AND_GALLERY)) for sample in samples]
        if not set(roles).issubset(ROLE_NAMES.values()):
            raise ValueError(f'role must be 0 (both), 1 (query) or 2 (gallery), got {sorted(set(roles))}')
        paths = [str(sample.get('img_path', '')) for sample in samples]
        groups = [0] * len(roles) if self.groups is None else self._values(self.groups, samples)
        ids = self._values('ids', samples) if self._have_ids(samples) else image_ids(paths, index.tolist()).tolist()
        columns = [self._labels(samples), torch.tensor(roles), torch.tensor(groups), torch.tensor(ids)]
        columns += [torch.tensor(self._values(field, samples)) for field in self.more]
        return embeddings, index, torch.stack(columns, dim=1), paths

    def share_names(self) -> None:
        """Exchange what digests stand for between ranks; all ranks must call it."""
        if self.groups is not None or self.more or any(all_gather_object(bool(self.has_ids))):
            for names in all_gather_object(self._names):
                self._names |= names

    def as_given(self, field: str, values: np.ndarray) -> np.ndarray:
        """``(N,)`` values of a field as the samples have them.

        Raises:
            TypeError: if some are strings and others integers.
        """
        names = [self._names.get(value) for value in values.tolist()]
        if None not in names:
            return np.array(names, dtype=np.str_)
        if any(name is not None for name in names):
            raise TypeError(f'{self._called(field)} must name a field of integers or of strings, but some are each')
        return values

    def _have_ids(self, samples: Sequence[dict]) -> bool:
        found = {'ids' in sample for sample in samples} | ({self.has_ids} - {None})
        if len(found) > 1:
            raise ValueError("some samples carry 'ids' and others do not: which images are the same one is not known")
        (self.has_ids,) = found
        return self.has_ids

    def _labels(self, samples: Sequence[dict]) -> Tensor:
        """``(B,)`` int64 on the CPU, -1 for an image without a label."""
        missing = torch.tensor([-1])
        found = [
            torch.as_tensor(_field(sample, 'gt_label') if self.needs_labels else sample.get('gt_label', missing))
            for sample in samples
        ]
        # One transfer a batch: a label at a time would wait for the accelerator every time.
        labels = torch.cat([label.reshape(1) for label in found]).cpu().long()
        if self.needs_labels and int(labels.min()) < 0:
            raise ValueError(
                'images without a label cannot be scored: collect their embeddings with tools/test.py --no-scores '
                '--out FILE.npz, or RetrievalMetric(score=False, out=...)'
            )
        return labels

    def _called(self, field: str) -> str:
        if field == 'ids':
            return field
        return f'groups={field!r}' if field == self.groups else f'graded={field!r}'

    def _values(self, field: str, samples: Sequence[dict]) -> list[int]:
        return [self._value(field, _field(sample, field)) for sample in samples]

    def _value(self, field: str, value: Any) -> int:
        if isinstance(value, Tensor):
            value = value.item()
        if not isinstance(value, str | int | np.integer):
            raise TypeError(f'{self._called(field)} must name a field with integers or strings, got {value!r}')
        if self._kinds.setdefault(field, isinstance(value, str)) != isinstance(value, str):
            raise TypeError(f'{self._called(field)} must name a field of integers or of strings, but some are each')
        if isinstance(value, str):
            key = text_digest(value)
            self._names[key] = value
            return key
        return int(value)


def _field(sample: dict, name: str) -> Any:
    if name not in sample:
        raise KeyError(f'RetrievalMetric needs {name!r} in every data sample, got {sorted(sample)}')
    return sample[name]
