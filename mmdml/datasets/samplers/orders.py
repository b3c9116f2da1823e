"""Which images make which batch: P x K orders, drawn from a class table and a random generator."""

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class ClassTable:
    """The images of every class in one array, class after class.

    Attributes:
        codes: ``(N,)`` class of each image, 0..C-1, in the smallest unsigned type that holds C.
        sizes: ``(C,)`` int64, images per class, all at least 1.
        starts: ``(C,)`` int64, where each class begins in an array sorted by class.
    """

    codes: np.ndarray
    sizes: np.ndarray
    starts: np.ndarray

    @classmethod
    def from_labels(cls, labels: np.ndarray) -> 'ClassTable':
        """Build the table from ``(N,)`` labels of any values; only labels that occur become classes.

        Raises:
            ValueError: if ``labels`` is empty, not one label per image, or has images without a label (-1).
        """
        labels = np.asarray(labels)
        if labels.ndim != 1 or len(labels) == 0:
            raise ValueError(f'labels must be a non-empty (N,) array, one label per image, got shape {labels.shape}')
        unlabeled = int((labels == -1).sum())
        if unlabeled:
            raise ValueError(
                f'{unlabeled} of {len(labels)} images have no label (-1): unlabeled images can be embedded, not '
                'sampled by class; train on a dataset with labels'
            )
        _, codes, sizes = np.unique(labels, return_inverse=True, return_counts=True)
        sizes = sizes.astype(np.int64)
        # numpy sorts 16-bit integers by radix, ten times faster than int64; `shuffled` sorts once per epoch.
        codes = codes.astype(np.min_scalar_type(len(sizes)))
        return cls(codes=codes, sizes=sizes, starts=np.cumsum(sizes) - sizes)

    @classmethod
    def from_dataset(cls, dataset: Any) -> 'ClassTable':
        """Build the table of a dataset that has ``labels``, or MMEngine's ``get_data_info(i)['gt_label']``."""
        if hasattr(dataset, 'labels'):
            return cls.from_labels(dataset.labels)
        return cls.from_labels([dataset.get_data_info(index)['gt_label'] for index in range(len(dataset))])

    @property
    def num_classes(self) -> int:
        """C, the number of classes that have images."""
        return len(self.sizes)

    def shuffled(self, rng: np.random.Generator) -> np.ndarray:
        """Return ``(N,)`` image indices sorted by class, in random order within each class."""
        images = rng.permutation(len(self.codes))
        return images[np.argsort(self.codes[images], kind='stable')]


def cover_batches(table: ClassTable, groups_per_batch: int, images_per_class: int) -> int:
    """Return the number of batches of one cover: ``T = ceil(sum_c ceil(n_c / K) / P)``."""
    groups = int((-(-table.sizes // images_per_class)).sum())
    return -(-groups // groups_per_batch)


def cover_order(
    table: ClassTable, groups_per_batch: int, images_per_class: int, rng: np.random.Generator
) -> np.ndarray:
    """Draw one pass in P x K order that reaches every image.

    Each class is cut at random into ``ceil(n_c / K)`` groups of K images. The groups, class after class in random
    order, are dealt to the T batches in turn, so those of one class meet in a batch only if the class has more than T
    of them. The last group of a class is filled with other images of the class, a class with fewer than K images
    repeats them evenly, and a batch short of groups gets groups of random classes that it does not hold.

    Args:
        table: the classes.
        groups_per_batch: P, at most the number of classes.
        images_per_class: K.
        rng: the source of all randomness.

    Returns:
        ``(T, P * K)`` image indices, the K images of a group side by side.
    """
    sizes = table.sizes
    num_batches = cover_batches(table, groups_per_batch, images_per_class)
    images = table.shuffled(rng)

    shuffled_classes = rng.permutation(table.num_classes)
    groups = -(-sizes[shuffled_classes] // images_per_class)
    dealt = int(groups.sum())
    # Row p of a (P, T) matrix filled in reading order holds the p-th group of every batch; -1 marks a missing one.
    classes = np.full(groups_per_batch * num_batches, -1, dtype=np.int64)
    numbers = classes.copy()
    classes[:dealt] = np.repeat(shuffled_classes, groups)
    numbers[:dealt] = np.arange(dealt) - np.repeat(np.cumsum(groups) - groups, groups)
    classes = classes.reshape(groups_per_batch, num_batches).T.copy()
    numbers = numbers.reshape(groups_per_batch, num_batches).T
    _fill_short_batches(classes, table.num_classes, rng)

    # Ranks take contiguous parts of a batch: without this the added groups would always fall to the last rank.
    places = np.argsort(rng.random(classes.shape), axis=1)
    batches = rng.permutation(num_batches)
    classes = np.take_along_axis(classes, places, axis=1)[batches]
    numbers = np.take_along_axis(numbers, places, axis=1)[batches]

    classes, numbers = classes[..., None], numbers[..., None]
    slots = np.arange(images_per_class)
    added = numbers < 0
    positions = numbers * images_per_class + slots
    own = ~added & (positions < sizes[classes])
    # Fillers come from the images before a last group, or from the whole class if the group is its only one or added.
    pool = np.where(numbers > 0, numbers * images_per_class, sizes[classes])
    ahead = np.where(added, slots, positions - sizes[classes])
    fillers = (rng.integers(0, pool) + ahead) % pool
    order = images[table.starts[classes] + np.where(own, positions, fillers)]
    return order.reshape(num_batches, -1)


def _fill_short_batches(classes: np.ndarray, num_classes: int, rng: np.random.Generator) -> None:
    """Replace each -1 of ``(T, P)`` by a random class that its row does not hold; the -1 are at the end of a row."""
    shortest = int((classes >= 0).sum(axis=1).min())
    for column in range(shortest, classes.shape[1]):
        rows = np.flatnonzero(classes[:, column] < 0)
        taken = np.sort(classes[rows, :column], axis=1)
        again = np.zeros(taken.shape, dtype=bool)
        again[:, 1:] = taken[:, 1:] == taken[:, :-1]
        taken[again] = 2 * num_classes  # out of reach below
        taken.sort(axis=1)
        # The class of rank u among the free ones is u plus the number of taken classes that precede it.
        rank = rng.integers(0, num_classes - column + again.sum(axis=1))
        classes[rows, column] = rank + (taken - np.arange(column) <= rank[:, None]).sum(axis=1)


def independent_order(
    table: ClassTable, num_batches: int, batch_size: int, images_per_class: int, rng: np.random.Generator
) -> np.ndarray:
    """Draw independent batches, as the code released with IAA does.

    For each batch: walk through a fresh random permutation of all classes, take ``min(m, n_c)`` images of each without
    replacement until the batch is full, and cut it to its size. Only as much of the permutation is drawn as a batch can
    use, so the cost grows with the batch and not with the number of classes.

    Args:
        table: the classes.
        num_batches: T.
        batch_size: B, images of a batch over all ranks; all classes together must offer as many.
        images_per_class: m.
        rng: the source of all randomness.

    Returns:
        ``(T, B)`` image indices, the images of a class side by side.
    """
    offered = np.minimum(table.sizes, images_per_class)
    # Even a draw of the smallest classes only fills the batch with this many.
    length = int(np.searchsorted(np.cumsum(np.sort(offered)), batch_size)) + 1
    classes = _distinct_rows(num_batches, length, table.num_classes, rng)
    used = np.clip(batch_size - np.cumsum(offered[classes], axis=1) + offered[classes], 0, offered[classes])

    kept = used > 0
    classes, used = classes[kept], used[kept]
    positions = distinct_positions(table.sizes[classes], images_per_class, rng)
    places = (table.starts[classes][:, None] + positions)[np.arange(images_per_class) < used[:, None]]
    return table.shuffled(rng)[places].reshape(num_batches, batch_size)


def small_cluster_order(table: ClassTable, num_batches: int, batch_size: int, rng: np.random.Generator) -> np.ndarray:
    """Draw independent full batches from few images, all classes as evenly as their sizes allow (for D&C clusters).

    A batch holds every image ``floor(B / N)`` times. Its other ``B mod N`` places go to all classes in equal parts,
    what a small class cannot give to the larger ones, and the last few to random classes: ``min(h, n_c)`` or
    ``h + 1`` different images of each. So no image repeats while there are B images, and none is in a batch more than
    once more often than another.

    Args:
        table: the classes.
        num_batches: T.
        batch_size: B, images of a batch over all ranks.
        rng: the source of all randomness.

    Returns:
        ``(T, B)`` image indices, the images of a class side by side, classes in random order.
    """
    copies, rest = divmod(batch_size, len(table.codes))
    level = _level(table.sizes, rest)
    extra = np.tile(np.minimum(table.sizes, level), (num_batches, 1))
    larger = np.flatnonzero(table.sizes > level)
    favored = rng.permuted(np.tile(larger, (num_batches, 1)), axis=1)[:, : rest - extra[0].sum()]
    np.put_along_axis(extra, favored, level + 1, axis=1)

    # One row per batch and class from here on.
    classes = rng.permuted(np.tile(np.arange(table.num_classes), (num_batches, 1)), axis=1)
    extra = np.take_along_axis(extra, classes, axis=1).ravel()
    classes = classes.ravel()
    sizes = table.sizes[classes]
    positions = np.tile(np.arange(level + 1), (len(classes), 1))
    drawn = sizes > extra  # the others give all their images
    positions[drawn] = distinct_positions(sizes[drawn], level + 1, rng)

    places = copies * sizes + extra
    row = np.repeat(np.arange(len(places)), places)
    slot = np.arange(len(row)) - np.repeat(np.cumsum(places) - places, places)
    beyond = slot - copies * sizes[row]
    position = np.where(beyond < 0, slot % sizes[row], positions[row, np.maximum(beyond, 0)])
    return table.shuffled(rng)[table.starts[classes[row]] + position].reshape(num_batches, batch_size)


def _distinct_rows(rows: int, length: int, num_classes: int, rng: np.random.Generator) -> np.ndarray:
    """``(rows, length)``: each row the beginning of a fresh random permutation of the classes."""
    if num_classes < 4 * length:
        return rng.permuted(np.tile(np.arange(num_classes), (rows, 1)), axis=1)[:, :length]
    # Redrawing repeats treats all classes alike, so every sequence of distinct classes stays equally likely.
    drawn = rng.integers(0, num_classes, (rows, length))
    pending = np.arange(rows)
    while len(pending):
        current = drawn[pending]
        order = np.argsort(current, axis=1, kind='stable')
        ascending = np.take_along_axis(current, order, axis=1)
        row, column = np.nonzero(ascending[:, 1:] == ascending[:, :-1])
        drawn[pending[row], order[row, column + 1]] = rng.integers(0, num_classes, len(row))
        pending = pending[np.unique(row)]
    return drawn


def distinct_positions(sizes: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """``(R, count)``: per row ``min(count, n)`` distinct positions below n in random order, then unusable entries.

    Floyd's sampling, all rows at once: step i draws from 0..n-count+i and, if that was drawn before, takes its end.
    """
    positions = np.full((len(sizes), count), -1, dtype=np.int64)
    for column in range(count):
        last = sizes - count + column
        draw = (rng.random(len(sizes)) * (last + 1)).astype(np.int64)
        drawn_before = (positions[:, :column] == draw[:, None]).any(axis=1)
        positions[:, column] = np.where(last < 0, -1, np.where(drawn_before, last, draw))
    # Floyd's subset is uniform but its order is not, and the last class of a batch is cut.
    keys = np.where(positions < 0, 2.0, rng.random(positions.shape))
    return np.take_along_axis(positions, np.argsort(keys, axis=1), axis=1)


def _level(sizes: np.ndarray, places: int) -> int:
    """Return the largest h with ``sum_c min(h, n_c) <= places``, for fewer places than images."""
    holding_more = len(sizes) - np.cumsum(np.bincount(sizes))  # entry h: classes with more than h images
    return int(np.searchsorted(np.cumsum(holding_more), places, side='right'))
