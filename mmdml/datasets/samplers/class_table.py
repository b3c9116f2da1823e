"""Which images each class has, as flat arrays."""

from dataclasses import dataclass

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
            ValueError: if ``labels`` is empty or not one label per image.
        """
        labels = np.asarray(labels)
        if labels.ndim != 1 or len(labels) == 0:
            raise ValueError(f'labels must be a non-empty (N,) array, one label per image, got shape {labels.shape}')
        _, codes, sizes = np.unique(labels, return_inverse=True, return_counts=True)
        sizes = sizes.astype(np.int64)
        # numpy sorts 16-bit integers by radix, ten times faster than int64; `shuffled` sorts once per epoch.
        codes = codes.astype(np.min_scalar_type(len(sizes)))
        return cls(codes=codes, sizes=sizes, starts=np.cumsum(sizes) - sizes)

    @property
    def num_classes(self) -> int:
        """C, the number of classes that have images."""
        return len(self.sizes)

    def shuffled(self, rng: np.random.Generator) -> np.ndarray:
        """``(N,)`` image indices sorted by class, in random order within each class."""
        images = rng.permutation(len(self.codes))
        return images[np.argsort(self.codes[images], kind='stable')]
