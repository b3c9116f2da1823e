"""Every random stream of the project, and the seeds of their draws."""

import hashlib
import operator
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum, unique

import numpy as np
import torch


@unique
class Stream(Enum):
    """Independent streams of random numbers of one run; the members' values enter the seeds and never change.

    A project outside this repository brings an ``Enum`` of its own, whose values begin with its name.
    """

    #: Global generators of python, numpy and torch; keys: epoch (or iteration, in iteration-based runs), rank.
    GLOBAL = 'global'
    #: Augmentation of one image; keys: epoch, dataset index, earlier draws of the image in this epoch.
    AUGMENTATION = 'augmentation'
    #: Seed of the augmentation in a sweep over the training set; key: iteration.
    SWEEP = 'sweep'
    #: Base seed of the workers that load a sweep.
    SWEEP_WORKERS = 'sweep workers'
    #: Order of the training images; key: epoch, or number of the cover.
    BATCHES = 'batches'
    #: Clusters that the steps of an epoch draw from; key: epoch.
    CLUSTER_CHOICE = 'cluster choice'
    #: Training classes held out for validation.
    VALIDATION_CLASSES = 'validation classes'
    #: Training images that are left of each class where a config takes few.
    IMAGES_OF_CLASS = 'images of a class'
    #: Gallery images that an evaluation protocol draws.
    GALLERY_DRAWS = 'gallery draws'
    #: Factors of the hash that finds equal embeddings.
    ROW_HASH = 'row hash'
    #: First seed of the k-means runs that divide the training set.
    KMEANS = 'k-means'
    #: Vectors whose clusters mean nothing, the control of clusters of the training set.
    RANDOM_CLUSTERS = 'random clusters'
    #: Tuples that a miner draws; keys: iteration, rank (0 where ranks share their rows).
    MINING = 'mining'
    #: First proxies of classes that are sharded over the ranks; key: number of the block of classes.
    PROXIES = 'proxies'
    #: Noise of IAA for the rows of all ranks; key: iteration.
    IAA_NOISE = 'iaa noise'
    #: Noise of IAA with full covariances; keys: iteration, rank (0 where ranks share their rows).
    IAA_FULL_NOISE = 'iaa full noise'
    #: Images of each class that enter an estimate of IAA; key: iteration.
    IAA_IMAGES = 'iaa images'
    #: Partners and shares of rows that are mixed; keys: iteration, rank (0 where ranks share their rows).
    MIXTURES = 'mixtures'
    #: Samples of a learned prior; keys: iteration, rank (0 where ranks share their rows).
    PRIOR_SAMPLES = 'prior samples'
    #: Images and pairs that a picture shows.
    PICTURES = 'pictures'
    #: First weights of a model that embeds without training.
    UNTRAINED_WEIGHTS = 'untrained weights'
    #: Pictures that the steps of an exported file are tried on.
    TEST_PICTURES = 'test pictures'


def derive_seed(stream: Enum, seed: int, *keys: int) -> int:
    """Hash a stream, a seed and keys to one 63-bit seed, the same in any process and on any machine.

    The stream's value, the number of keys, and every number in eight bytes enter a BLAKE2b hash, so different arguments
    give independent seeds, whatever their lengths and trailing zeros.

    Args:
        stream: a :class:`Stream`, or a member of another project's ``Enum`` with text values.
        seed: of the run, in 0..2^63-1.
        keys: e.g. epoch and rank, in 0..2^63-1.

    Raises:
        TypeError: if ``stream`` is no such member, or a number is no integer.
        ValueError: if a number is out of range.

    Example:
        >>> derive_seed(Stream.BATCHES, 0, 3)
    """
    if not isinstance(stream, Enum) or not isinstance(stream.value, str):
        raise TypeError(f'stream must be a member of Stream, got {stream!r}')
    digest = hashlib.blake2b(f'{len(keys)} {stream.value}\0'.encode(), digest_size=8)
    for name, number in (('seed', seed), *(('key', key) for key in keys)):
        number = operator.index(number)
        if not 0 <= number < 2**63:
            raise ValueError(f'the {name} of random stream {stream.value!r} must be in 0..2^63-1, got {number}')
        digest.update(number.to_bytes(8, 'little'))
    return int.from_bytes(digest.digest(), 'little') & (2**63 - 1)


def numpy_generator(stream: Enum, seed: int, *keys: int) -> np.random.Generator:
    """Seed a numpy generator by :func:`derive_seed`."""
    return np.random.default_rng(derive_seed(stream, seed, *keys))


def torch_generator(stream: Enum, seed: int, *keys: int, device: str | torch.device | None = None) -> torch.Generator:
    """Seed a torch generator on ``device`` (default: the CPU) by :func:`derive_seed`."""
    generator = torch.Generator(device or 'cpu')
    return generator.manual_seed(derive_seed(stream, seed, *keys))


@contextmanager
def torch_seeded(stream: Enum, seed: int, *keys: int) -> Iterator[None]:
    """Seed torch's global generator of the CPU by :func:`derive_seed` inside the block, and give it back after."""
    state = torch.default_generator.get_state()
    try:
        torch.default_generator.manual_seed(derive_seed(stream, seed, *keys))
        yield
    finally:
        torch.default_generator.set_state(state)
