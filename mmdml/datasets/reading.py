"""Reading one image of a dataset: the pipeline, its seeded augmentation, and what becomes of an unreadable file."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from mmengine.logging import print_log

from mmdml.datasets.augmentation_seed import augmentation_seed
from mmdml.registry import TRANSFORMS
from mmdml.utils.names import printable


class UnreadableImageError(RuntimeError):
    """An image that the pipeline could not turn into an input; names the file and its index."""


class ReadingMixin:
    """Items of a dataset, which brings ``get_data_info``, ``labels``, ``pipeline`` and ``on_unreadable``."""

    _reported: set[int]
    _epoch: torch.Tensor

    @property
    def epoch(self) -> int:
        """The epoch that the augmentation is seeded with."""
        return int(self._epoch)

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the augmentation, also in workers that are already running."""
        self._epoch.fill_(epoch)

    def set_seed(self, seed: int | None) -> None:
        """Seed the augmentation (None: do not). Must come before workers start: they keep the seed they began with."""
        if seed is not None and seed < 0:
            raise ValueError(f'seed={seed} must be None or 0 or more')
        self.seed = seed

    def open_image(self, data_info: dict) -> dict:
        """Add the pixels to a data info, in datasets that hold them in memory."""
        return data_info

    def __getitem__(self, idx: int) -> dict:
        """Return the pipeline's output for image ``idx``, an int or a :class:`mmdml.datasets.samplers.Draw`.

        Raises:
            UnreadableImageError: see ``on_unreadable``.
        """
        return self.read(int(idx), getattr(idx, 'repeat', 0))

    def read(self, idx: int, repeat: int = 0) -> Any:
        """Return the pipeline's output for image ``idx``, augmented as its ``repeat``-th repetition in this epoch."""
        self.full_init()
        try:
            return self._read(idx, repeat)
        except UnreadableImageError as error:
            if self.on_unreadable == 'stop':
                raise
            return self._read_same_class(idx, repeat, error)

    def _read(self, idx: int, repeat: int) -> Any:
        info = self.get_data_info(idx)
        # The pipeline may change the data info.
        named = f'image {printable(info["img_path"])} (index {info["sample_idx"]}'
        try:
            if self.seed is None:
                data = self.pipeline(self.open_image(info))
            else:
                with augmentation_seed(self.seed, self.epoch, info['sample_idx'], repeat):
                    data = self.pipeline(self.open_image(info))
        except Exception as error:
            cause = printable(' '.join(str(error).split()))
            if isinstance(error, KeyError) and error.args == ('img',):
                cause += "; the pipeline must begin with dict(type='LoadImageFromFile')"
            raise UnreadableImageError(
                f'cannot read {named} of {type(self).__name__}): {type(error).__name__}: {cause}'
            ) from error
        if data is None:
            raise UnreadableImageError(f'the pipeline returned None for {named})')
        return data

    def _read_same_class(self, idx: int, repeat: int, error: UnreadableImageError) -> Any:
        """Return the next readable image of the class, in the order of the dataset, from ``idx`` on and round."""
        members = np.flatnonzero(self.labels == self.labels[idx])
        position = int(np.searchsorted(members, idx % len(self)))
        for other in np.roll(members, -position)[1:].tolist():
            try:
                # A number of repeats that no sampler reaches: the replacement may be in the batch itself, and must
                # not come twice with the same augmentation, nor may repetitions of the one that it replaces.
                data = self._read(other, repeat=len(self) * (1 + repeat) + idx)
            except UnreadableImageError:
                continue
            if idx not in self._reported:
                self._reported.add(idx)
                shown = printable(self.get_data_info(other)['img_path'])
                print_log(f'{error}; showing {shown} of the same class instead', 'current', level=30)
            return data
        raise UnreadableImageError(f'{error}; its class has no other image that can be read')


def new_epoch() -> torch.Tensor:
    """Return an epoch counter in shared memory, where persistent workers see changes."""
    return torch.zeros(1, dtype=torch.int64).share_memory_()


def build_transforms(pipeline: Sequence[dict | Callable]) -> list[Callable]:
    """Return the transforms of a pipeline; types are those of mmdml, mmcv and mmpretrain.

    MMEngine's Compose looks types up in the root registry only.
    """
    return [TRANSFORMS.build(transform) if isinstance(transform, dict) else transform for transform in pipeline]
