"""Full batches from few images: what a small cluster yields where P x K is out of reach."""

import numpy as np

from .class_table import ClassTable
from .orders import _distinct_positions


def small_cluster_order(table: ClassTable, num_batches: int, batch_size: int, rng: np.random.Generator) -> np.ndarray:
    """Independent batches that use all classes as evenly as their sizes allow (D&C dossier sec. 3.6, batch sampler).

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
    favoured = rng.permuted(np.tile(larger, (num_batches, 1)), axis=1)[:, : rest - extra[0].sum()]
    np.put_along_axis(extra, favoured, level + 1, axis=1)

    # One row per batch and class from here on.
    classes = rng.permuted(np.tile(np.arange(table.num_classes), (num_batches, 1)), axis=1)
    extra = np.take_along_axis(extra, classes, axis=1).ravel()
    classes = classes.ravel()
    sizes = table.sizes[classes]
    positions = np.tile(np.arange(level + 1), (len(classes), 1))
    drawn = sizes > extra  # the others give all their images
    positions[drawn] = _distinct_positions(sizes[drawn], level + 1, rng)

    places = copies * sizes + extra
    row = np.repeat(np.arange(len(places)), places)
    slot = np.arange(len(row)) - np.repeat(np.cumsum(places) - places, places)
    beyond = slot - copies * sizes[row]
    position = np.where(beyond < 0, slot % sizes[row], positions[row, np.maximum(beyond, 0)])
    return table.shuffled(rng)[table.starts[classes[row]] + position].reshape(num_batches, batch_size)


def _level(sizes: np.ndarray, places: int) -> int:
    """The largest h with ``sum_c min(h, n_c) <= places``, for fewer places than images."""
    holding_more = len(sizes) - np.cumsum(np.bincount(sizes))  # entry h: classes with more than h images
    return int(np.searchsorted(np.cumsum(holding_more), places, side='right'))
