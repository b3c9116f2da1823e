"""Features of six classes, in an order that is not that of their names."""

import numpy as np

LABELS = np.repeat([3, 10, 7, 20, 5, 1], 6)


def features(rows=36, width=5, seed=0):
    noise = np.random.default_rng(seed).standard_normal((rows, width))
    return (noise + 4 * LABELS[:rows, None] % 9).astype(np.float32)


def batch_of(dataset, indices):
    return dataset.__getitems__(indices)
