"""Augmentation that depends on the image and the epoch, not on the worker that happens to load it."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from mmdml.utils.seeding import Stream, derive_seed

# Copying numpy's state takes longer than a small image's whole augmentation, so the global generator is exchanged
# for one of these instead. The list grows only where contexts are nested.
_spare_generators: list[np.random.MT19937] = []


@contextmanager
def augmentation_seed(seed: int, epoch: int, sample_idx: int, repeat: int = 0) -> Iterator[None]:
    """Seed python's ``random``, numpy's and torch's global CPU generators inside the block, and give them back after.

    Args:
        seed: seed of the run, 0 or more.
        epoch: epoch number, 0 or more.
        sample_idx: running index of the image.
        repeat: how often this epoch drew the image before, 0 or more.

    Note:
        The generators continue afterwards as if the block had not been there, with one exception: numpy's second
        value of a pair of legacy normal draws (``np.random.randn``), if one was waiting, is dropped.
    """
    mixed = derive_seed(Stream.AUGMENTATION, seed, epoch, sample_idx, repeat)
    torch_generator = torch.default_generator
    python_state, torch_state = random.getstate(), torch_generator.get_state()
    numpy_generator = np.random.get_bit_generator()
    own_generator = _spare_generators.pop() if _spare_generators else np.random.MT19937()
    np.random.set_bit_generator(own_generator)
    try:
        random.seed(mixed)
        np.random.seed(mixed & 0xFFFFFFFF)
        torch_generator.manual_seed(mixed)
        yield
    finally:
        random.setstate(python_state)
        torch_generator.set_state(torch_state)
        np.random.set_bit_generator(numpy_generator)
        _spare_generators.append(own_generator)
