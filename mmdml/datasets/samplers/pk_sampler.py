"""Batches of P classes with K images each."""

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from torch.utils.data import Sampler

from mmdml.dist import get_rank, get_world_size, shared_random_seed
from mmdml.registry import DATA_SAMPLERS
from mmdml.utils.numbers import check_counts
from mmdml.utils.seeding import Stream, numpy_generator

from .draw import Draw, earlier_uses
from .orders import ClassTable, cover_batches, cover_order, independent_order


@DATA_SAMPLERS.register_module()
class PKSampler(Sampler):
    """Yield dataset indices so that every ``batch_size`` of them are P classes x K images (``P = batch_size / K``).

    A plain sampler: the DataLoader cuts its indices into batches, so its ``batch_size`` must be the same. With W ranks
    a global batch has ``W * batch_size`` images and rank r takes the r-th part: ranks are disjoint in every step,
    equally long, and together see what one process with ``W * batch_size`` sees. The order depends on (seed, epoch)
    alone.

    Presets:

    - ``'cover'``: an epoch is ``ceil(sum_c ceil(n_c / K) / (P W))`` batches and reaches every image. The classes of a
      batch are distinct unless a class has more groups of K than the epoch has batches. A class's last group is filled
      with its other images; a class with fewer than K images repeats them. With ``num_batches`` the epochs are that
      long and walk on through the covers: cover after cover, each shuffled anew.
    - ``'independent'``: as in the code released with IAA. An epoch is ``floor(N / (W batch_size))`` batches,
      capped by ``num_batches``; each takes ``min(K, n_c)`` images from random classes until it is full and is cut to
      its size, so its last class may be ragged, small classes contribute less and more classes enter.

    An image that the epoch has used before is yielded as ``Draw(index, repeat)``, an int for which the dataset
    draws another augmentation.

    Args:
        dataset: offers ``labels`` ``(N,)``, or MMEngine's ``get_data_info(i)['gt_label']``.
        batch_size: images per batch and rank.
        images_per_class: K, at least 1.
        preset: ``'cover'`` or ``'independent'``.
        num_batches: batches per epoch (cover), or their upper limit (independent). Default: none.
        images_per_epoch: the same in images over all ranks, in place of ``num_batches``; rounded up to whole batches.
        seed: of the order. Default: a random one, the same on all ranks.
        rank: default: of this process.
        world_size: W. Default: of the running job.

    Raises:
        ValueError: if there are no labels; a number is no integer or too small; ``images_per_class`` is larger than
            every class; ``batch_size`` is no multiple of it; a batch needs more classes than there are (cover); or the
            images cannot fill a batch (independent).

    Config::

        train_dataloader = dict(
            batch_size=128, sampler=dict(type='PKSampler', batch_size=128, images_per_class=4))
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int,
        images_per_class: int,
        preset: str = 'cover',
        num_batches: int | None = None,
        seed: int | None = None,
        rank: int | None = None,
        world_size: int | None = None,
        images_per_epoch: int | None = None,
    ) -> None:
        this_rank, job_size = get_rank(), get_world_size()
        self.rank = this_rank if rank is None else rank
        self.world_size = job_size if world_size is None else world_size
        optional = dict(num_batches=num_batches, images_per_epoch=images_per_epoch)
        given = {name: value for name, value in optional.items() if value is not None}
        check_counts(batch_size=batch_size, images_per_class=images_per_class, world_size=self.world_size, **given)
        check_counts(0, **({} if seed is None else dict(seed=seed)))
        self.dataset = dataset
        self.batch_size = batch_size
        self.images_per_class = images_per_class
        self.preset = preset
        self.table = ClassTable.from_dataset(dataset)
        if images_per_epoch is not None:
            if num_batches is not None:
                raise ValueError(
                    f'images_per_epoch must stand alone, got {images_per_epoch} and num_batches={num_batches}'
                )
            num_batches = -(-images_per_epoch // self._global_batch_size)
        self._check()
        self._cover_batches = 0
        if preset == 'cover':
            self._cover_batches = cover_batches(self.table, self._groups_per_batch, images_per_class)
            self.num_batches = num_batches or self._cover_batches
        else:
            whole = len(self.table.codes) // self._global_batch_size
            self.num_batches = min(whole, num_batches or whole)
        self.seed = int(shared_random_seed() if seed is None else seed)
        self._epoch = 0
        self._first_epoch = 0
        self._start = 0

    def __len__(self) -> int:
        """Return the number of indices of one epoch on this rank; the same in every epoch and on every rank."""
        return self.num_batches * self.batch_size

    def __iter__(self) -> Iterator[int]:
        """Iterate over the indices of the current epoch on this rank."""
        order = self.global_order(self._epoch)
        shape = self.num_batches, self.world_size, self.batch_size
        start, self._start = self._start, 0
        repeats = earlier_uses(order).reshape(shape)[:, self.rank].ravel()[start:].tolist()
        indices = order.reshape(shape)[:, self.rank].ravel()[start:].tolist()
        return (Draw(index, repeat) if repeat else index for index, repeat in zip(indices, repeats, strict=True))

    def global_order(self, epoch: int) -> np.ndarray:
        """Return ``(num_batches * W * batch_size,)`` indices of an epoch, global batch after global batch."""
        if self.preset == 'independent':
            rng = numpy_generator(Stream.BATCHES, self.seed, epoch)
            shape = self.num_batches, self._global_batch_size
            return independent_order(self.table, *shape, self.images_per_class, rng).ravel()
        begin, end = epoch * self.num_batches, (epoch + 1) * self.num_batches
        first, last = begin // self._cover_batches, (end - 1) // self._cover_batches
        covers = [
            cover_order(
                self.table,
                self._groups_per_batch,
                self.images_per_class,
                numpy_generator(Stream.BATCHES, self.seed, cover),
            )
            for cover in range(first, last + 1)
        ]
        skipped = first * self._cover_batches
        return np.concatenate(covers)[begin - skipped : end - skipped].ravel()

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration yields, for the dataset as well.

        After ``skip`` the epochs count from the one it reached, because MMEngine's iteration-based loop counts from 0
        again when it resumes.
        """
        self._go_to(self._first_epoch + epoch)

    def skip(self, num_samples: int) -> None:
        """Continue after the first ``num_samples`` indices of this rank (MMEngine's way to resume by iteration).

        Args:
            num_samples: counted from the start of the run, on this rank, not relative to the current position.

        Raises:
            ValueError: if it is negative.
        """
        if num_samples < 0:
            raise ValueError(f'num_samples must not be negative, got {num_samples}')
        self._first_epoch, self._start = divmod(num_samples, len(self))
        self._go_to(self._first_epoch)

    def run_state(self) -> dict[str, int]:
        """Return what a resumed run needs to yield the same order, also where the seed was drawn at random."""
        return {'seed': self.seed}

    def load_run_state(self, state: dict[str, int]) -> None:
        """Restore what ``run_state`` returned."""
        self.seed = int(state['seed'])

    @property
    def _global_batch_size(self) -> int:
        return self.batch_size * self.world_size

    @property
    def _groups_per_batch(self) -> int:
        return self._global_batch_size // self.images_per_class

    def _go_to(self, epoch: int) -> None:
        self._epoch = epoch
        if hasattr(self.dataset, 'set_epoch'):
            self.dataset.set_epoch(epoch)

    def _check(self) -> None:
        sizes, size, per_class = self.table.sizes, self._global_batch_size, self.images_per_class
        if self.preset not in ('cover', 'independent'):
            raise ValueError(f"preset must be 'cover' or 'independent', got {self.preset!r}")
        if not 0 <= self.rank < self.world_size:
            raise ValueError(f'rank must be in 0..{self.world_size - 1} (world_size - 1), got {self.rank}')
        if per_class > sizes.max():
            raise ValueError(
                f'images_per_class={per_class} is larger than every class: the largest has {sizes.max()} images'
            )
        if self.preset == 'cover':
            if self.batch_size % per_class:
                raise ValueError(
                    f'batch_size must be a multiple of images_per_class, got {self.batch_size} and {per_class}'
                )
            if self._groups_per_batch > len(sizes):
                raise ValueError(
                    f'a batch of {self.batch_size} images on each of {self.world_size} ranks, {per_class} per class, '
                    f'needs {self._groups_per_batch} distinct classes, but the dataset has {len(sizes)}; lower '
                    f'batch_size to at most {len(sizes) // self.world_size * per_class}, or raise images_per_class'
                )
        else:
            offered = int(np.minimum(sizes, per_class).sum())
            if offered < size:
                raise ValueError(
                    f'a batch of {size} images over all ranks cannot be filled: {len(sizes)} classes with at most '
                    f'{per_class} images each offer {offered}; lower batch_size or raise images_per_class'
                )
        lone = int((sizes == 1).sum())
        if lone and per_class > 1 and self.rank == 0:
            fate = (
                'their only positive partner in a batch is another augmentation of the same image'
                if self.preset == 'cover'
                else 'they are anchors without a positive'
            )
            warnings.warn(f'{lone} of {len(sizes)} classes have a single image: {fate}', stacklevel=3)
