"""P x K batches that together reach every image."""

import numpy as np

from .class_table import ClassTable


def cover_batches(table: ClassTable, groups_per_batch: int, images_per_class: int) -> int:
    """Batches of one cover: ``T = ceil(sum_c ceil(n_c / K) / P)``."""
    groups = int((-(-table.sizes // images_per_class)).sum())
    return -(-groups // groups_per_batch)


def cover_order(
    table: ClassTable, groups_per_batch: int, images_per_class: int, rng: np.random.Generator
) -> np.ndarray:
    """One pass in P x K order that reaches every image.

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
