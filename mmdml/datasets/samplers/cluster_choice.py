"""Which cluster each step of an epoch draws from."""

from collections.abc import Callable

import numpy as np

from mmdml.utils.seeding import Stream, numpy_generator


def uniform(sizes: np.ndarray, seed: int, epoch: int, num_steps: int) -> np.ndarray:
    """Every cluster equally likely in every step (D&C CVPR 2019, Sec. 3.3, Alg. 1)."""
    return _draw(np.ones(len(sizes)), seed, epoch, num_steps)


def proportional(sizes: np.ndarray, seed: int, epoch: int, num_steps: int) -> np.ndarray:
    """A cluster is as likely as its share of the images."""
    return _draw(sizes, seed, epoch, num_steps)


def round_robin(sizes: np.ndarray, seed: int, epoch: int, num_steps: int) -> np.ndarray:
    """The clusters in turn; an epoch goes on where the last one ended, or the first clusters would get more steps."""
    return (epoch * num_steps + np.arange(num_steps)) % len(sizes)


CLUSTER_ORDERS: dict[str, Callable[[np.ndarray, int, int, int], np.ndarray]] = {
    'uniform': uniform,
    'proportional': proportional,
    'round_robin': round_robin,
}
"""Each takes the images of every non-empty cluster, seed, epoch and T; it returns ``(T,)`` positions in ``sizes``."""


def _draw(weights: np.ndarray, seed: int, epoch: int, num_steps: int) -> np.ndarray:
    numbers = numpy_generator(Stream.CLUSTER_CHOICE, seed, epoch).random(num_steps)
    return np.searchsorted(np.cumsum(weights) / np.sum(weights), numbers, side='right')
