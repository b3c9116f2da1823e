"""Indices of images that an epoch uses more than once."""

import numpy as np


class Draw(int):
    """The index of an image that the epoch has already used: behaves as the int, and gets another augmentation.

    A dataset that seeds its augmentation from (seed, epoch, index) would return the same image again; with
    ``repeat`` in the seed it does not.

    Args:
        index: dataset index.
        repeat: how many times this epoch drew the image before, 1 or more.
    """

    repeat: int

    def __new__(cls, index: int, repeat: int) -> 'Draw':
        draw = super().__new__(cls, index)
        draw.repeat = int(repeat)
        return draw

    def __reduce__(self) -> tuple:
        # int's own pickling calls Draw(index) without the repeat; worker processes receive indices by pickle.
        return Draw, (int(self), self.repeat)

    def __repr__(self) -> str:
        return f'Draw({int(self)}, repeat={self.repeat})'


def earlier_uses(order: np.ndarray) -> np.ndarray:
    """For each entry, how many earlier entries have the same value."""
    earlier = np.zeros(len(order), dtype=np.int64)
    again = np.flatnonzero(np.bincount(order)[order] > 1)
    by_value = again[np.argsort(order[again], kind='stable')]
    values = order[by_value]
    first = np.flatnonzero(np.diff(values, prepend=-1))
    earlier[by_value] = np.arange(len(values)) - np.repeat(first, np.diff(first, append=len(values)))
    return earlier
