"""The batches of the code that was released with IAA: fresh random classes for every batch, no promise of coverage."""

import numpy as np

from .class_table import ClassTable


def released_order(
    table: ClassTable, num_batches: int, batch_size: int, images_per_class: int, rng: np.random.Generator
) -> np.ndarray:
    """Independent batches (IAA dossier sec. 4.4).

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
    positions = _distinct_positions(table.sizes[classes], images_per_class, rng)
    places = (table.starts[classes][:, None] + positions)[np.arange(images_per_class) < used[:, None]]
    return table.shuffled(rng)[places].reshape(num_batches, batch_size)


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


def _distinct_positions(sizes: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
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
