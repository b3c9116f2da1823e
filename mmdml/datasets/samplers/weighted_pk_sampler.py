"""Batches of P classes with K images each, of classes drawn by weight or from a few super-classes."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from mmdml.registry import DATA_SAMPLERS
from mmdml.utils.near_names import did_you_mean
from mmdml.utils.seeding import Stream, numpy_generator

from .orders import distinct_positions
from .pk_sampler import PKSampler

#: Weight of each class, from the images per class.
CLASS_WEIGHTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    'uniform': lambda sizes: np.ones(len(sizes)),
    'sqrt': lambda sizes: np.sqrt(sizes),
    'size': lambda sizes: sizes.astype(np.float64),
}


@DATA_SAMPLERS.register_module()
class WeightedPKSampler(PKSampler):
    """Yield dataset indices so that every batch is P random classes x K images, with a say in which classes.

    Each batch draws distinct classes in proportion to ``class_weights``, and K different images of each; a class with
    fewer repeats them evenly. Nothing is said about which images an epoch reaches: rare classes may come often and
    common images never.

    With ``super_class`` the classes of a batch come from super-classes in equal numbers, so that each super-class is
    seen alike however many classes it has; what equal numbers leave over goes to each with the same probability.
    ``super_classes_per_batch`` of them are drawn for each batch: few make batches of classes that are near each other,
    as ``HierarchicalSampler`` of pytorch-metric-learning does. Where a super-class has too few classes the others give
    more, and where all of them have, further ones are drawn.

    Ranks, epochs, ``skip`` and ``Draw`` are as in ``PKSampler``; so is the length of an epoch unless ``num_batches`` or
    ``images_per_epoch`` gives another.

    Args:
        dataset: offers ``labels`` ``(N,)`` and, for ``super_class``, ``columns``.
        batch_size: images per batch and rank, a multiple of ``images_per_class``.
        images_per_class: K, at least 1.
        class_weights: 'uniform', 'sqrt' (of the images of a class), 'size', or weights of 0 and more by class name;
            classes that are not named have 1.
        super_class: column of the dataset that is the same for all images of a class.
        super_classes_per_batch: S. Default: as many as a batch has classes.
        kwargs: ``num_batches``, ``images_per_epoch``, ``seed``, ``rank`` and ``world_size`` of :class:`PKSampler`.

    Raises:
        ValueError: for weights, a column or numbers that do not fit; see also :class:`PKSampler`.

    Config::

        train_dataloader = dict(
            batch_size=128,
            sampler=dict(
                type='WeightedPKSampler', batch_size=128, images_per_class=4, super_class='coarse',
                super_classes_per_batch=4))
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int,
        images_per_class: int,
        class_weights: str | Mapping[str, float] = 'uniform',
        super_class: str | None = None,
        super_classes_per_batch: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(dataset, batch_size, images_per_class, **kwargs)
        self.class_weights = class_weights
        with np.errstate(divide='ignore'):
            self._log_weights = np.log(self._weights())
        if super_classes_per_batch is not None and (super_class is None or super_classes_per_batch < 1):
            raise ValueError(
                f'super_classes_per_batch={super_classes_per_batch} must be at least 1, and needs super_class'
            )
        self.super_class = super_class
        self.super_classes_per_batch = super_classes_per_batch
        self._super_classes = self._read_super_classes()
        drawable = int((self._log_weights > -np.inf).sum())
        if drawable < self._groups_per_batch:
            raise ValueError(
                f'a batch needs {self._groups_per_batch} distinct classes, but only {drawable} have a weight above 0'
            )

    def global_order(self, epoch: int) -> np.ndarray:
        """Return ``(num_batches * W * batch_size,)`` indices of an epoch, global batch after global batch."""
        rng = numpy_generator(Stream.BATCHES, self.seed, epoch)
        # The largest of log-weights plus Gumbel noise are a draw without replacement in proportion to the weights.
        keys = self._log_weights + rng.gumbel(size=(self.num_batches, self.table.num_classes))
        if self.super_class is None:
            classes = np.argsort(-keys, axis=1)[:, : self._groups_per_batch]
        else:
            classes = np.stack([self._from_super_classes(row, rng) for row in keys])
        classes = classes.ravel()
        sizes = self.table.sizes[classes]
        positions = distinct_positions(sizes, self.images_per_class, rng)
        slots = np.arange(self.images_per_class)
        positions = np.take_along_axis(positions, slots % np.minimum(sizes, self.images_per_class)[:, None], axis=1)
        return self.table.shuffled(rng)[self.table.starts[classes][:, None] + positions].ravel()

    def _from_super_classes(self, keys: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """``(P,)`` classes of a batch, in random order, from ``(C,)`` keys of which the largest are taken."""
        order = rng.permutation(len(self._super_classes))
        number = self.super_classes_per_batch or self._groups_per_batch
        offered = np.cumsum([len(self._super_classes[one]) for one in order])
        number = max(number, int(np.searchsorted(offered, self._groups_per_batch)) + 1)
        # From the smallest on, so that what it lacks is shared by all others; ties stay in random order.
        chosen = sorted(order[:number], key=lambda one: len(self._super_classes[one]))
        taken, missing = [], self._groups_per_batch
        for place, one in enumerate(chosen):
            members = self._super_classes[one]
            left = len(chosen) - place
            equal, more = divmod(missing, left)
            # What equal parts leave over goes to each with the same probability.
            part = min(len(members), equal + int(more > 0 and rng.random() * left < more))
            taken.append(members[np.argsort(-keys[members])[:part]])
            missing -= part
        return rng.permutation(np.concatenate(taken))

    def _weights(self) -> np.ndarray:
        """``(C,)`` weights of the classes of the table."""
        if isinstance(self.class_weights, str):
            if self.class_weights not in CLASS_WEIGHTS:
                raise ValueError(
                    f'class_weights must be one of {list(CLASS_WEIGHTS)} or weights by class name, '
                    f'got {self.class_weights!r}'
                )
            return CLASS_WEIGHTS[self.class_weights](self.table.sizes)
        names = list(self.dataset.metainfo['classes'])
        for name, weight in self.class_weights.items():
            if name not in names:
                raise ValueError(f'class_weights has {name!r}, which is no class{did_you_mean(name, names)}')
            if not 0 <= weight < float('inf'):
                raise ValueError(f'class_weights[{name!r}] must be 0 or more, got {weight}')
        weights = np.array([self.class_weights.get(name, 1.0) for name in names], dtype=np.float64)
        return weights[np.unique(self.dataset.labels)]

    def _read_super_classes(self) -> list[np.ndarray]:
        """Classes of the table in each super-class, those of weight 0 left out."""
        if self.super_class is None:
            return []
        columns = getattr(self.dataset, 'columns', {})
        if self.super_class not in columns:
            raise ValueError(
                f'super_class={self.super_class!r} is no column of the dataset, which has {sorted(columns)}'
            )
        _, codes = np.unique(columns[self.super_class], return_inverse=True)
        first = np.full(self.table.num_classes, -1)
        first[self.table.codes[::-1]] = codes[::-1]
        torn = np.flatnonzero(first[self.table.codes] != codes)
        if len(torn):
            raise ValueError(
                f'super_class={self.super_class!r} differs within {len(np.unique(self.table.codes[torn]))} classes'
            )
        kept = self._log_weights > -np.inf
        found = (np.flatnonzero((first == code) & kept) for code in range(codes.max() + 1))
        return [members for members in found if len(members)]
