"""Random groups of images, every class equally often."""

from collections.abc import Iterator

import numpy as np
from mmengine.logging import print_log
from torch.utils.data import Sampler

from mmdml.datasets.base import RetrievalDataset
from mmdml.datasets.samplers import Draw
from mmdml.dist import get_rank, get_world_size, shared_random_seed
from mmdml.registry import DATA_SAMPLERS
from mmdml.utils.seeding import Stream, numpy_generator


@DATA_SAMPLERS.register_module()
class ClassUniformSampler(Sampler):
    """Draw classes uniformly with replacement, and K random images of each.

    Unlike ``PKSampler`` it promises nothing about a batch or an epoch: a batch may hold a class twice, an epoch may
    miss images, and a class of 5 images is drawn as often as one of 500. A class with fewer than K images repeats some.

    The order is a function of (seed, epoch). With W ranks, rank r takes groups r, r + W, ...

    Args:
        dataset: offers ``labels (N,)`` and ``set_epoch``.
        batch_size: images per batch and rank, a multiple of ``images_per_class``.
        images_per_class: K.
        num_batches: batches per epoch.
        seed: of the order. Default: a random one, the same on all ranks.

    Raises:
        ValueError: if ``batch_size`` is no multiple of ``images_per_class``.

    Config::

        sampler=dict(type='ClassUniformSampler', batch_size=128, images_per_class=4, num_batches=150)
    """

    def __init__(
        self,
        dataset: RetrievalDataset,
        batch_size: int,
        images_per_class: int,
        num_batches: int,
        seed: int | None = None,
    ) -> None:
        if batch_size % images_per_class:
            raise ValueError(
                f'batch_size must be a multiple of images_per_class, got {batch_size} and {images_per_class}'
            )
        self.dataset = dataset
        self.images_per_class = images_per_class
        self.num_groups = num_batches * batch_size // images_per_class
        self.seed = shared_random_seed() if seed is None else seed
        self.rank, self.world_size = get_rank(), get_world_size()
        self._epoch = 0
        order = np.argsort(dataset.labels, kind='stable')
        starts = np.flatnonzero(np.diff(dataset.labels[order])) + 1
        self._images_of_class = np.split(order, starts)

    def __len__(self) -> int:
        """Indices of an epoch on this rank; MMEngine reads it once, so it never changes."""
        return self.num_groups * self.images_per_class

    def __iter__(self) -> Iterator[int]:
        """The indices of the current epoch on this rank."""
        rng = numpy_generator(Stream.BATCHES, self.seed, self._epoch)
        classes = rng.integers(len(self._images_of_class), size=self.num_groups * self.world_size)
        groups = [self._draw(self._images_of_class[label], rng) for label in classes]
        own = np.concatenate(groups[self.rank :: self.world_size]).tolist()
        print_log(
            f'ClassUniformSampler: epoch {self._epoch + 1} draws {len(np.unique(classes))} of '
            f'{len(self._images_of_class)} classes',
            logger='current',
        )
        # The dataset augments by (seed, epoch, index, repeat): a number of its own makes every draw a new image.
        return (Draw(index, position) for position, index in enumerate(own, 1))

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the order and of the augmentation; called by ``DistSamplerSeedHook`` before every epoch."""
        self._epoch = epoch
        self.dataset.set_epoch(epoch)

    def run_state(self) -> dict[str, int]:
        """Return what a resumed run needs: a seed that was drawn at random."""
        return {'seed': self.seed}

    def load_run_state(self, state: dict[str, int]) -> None:
        """Restore what :meth:`run_state` returned."""
        self.seed = state['seed']

    def _draw(self, images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return rng.choice(images, self.images_per_class, replace=len(images) < self.images_per_class)
