"""Images of one source, and which of its classes belong to a split."""

import os.path as osp
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from mmengine.fileio import exists

from mmdml.structures.row_facts import check_one_label_per_image, image_ids
from mmdml.utils.names import printable
from mmdml.utils.numbers import is_number, is_whole
from mmdml.utils.seeding import Stream, numpy_generator

SPLITS = ('train', 'val', 'test')


class Samples(NamedTuple):
    """The images of one source, before any class is held out.

    Attributes:
        paths: ``N`` image paths, relative to ``data_prefix['img_path']`` or absolute.
        labels: ``(N,)`` positions in ``classes``; all -1 if the images have no labels.
        classes: class names, in the dataset's official order; none if the images have no labels.
        roles: ``(N,)`` of 0 (query and gallery), 1 (query) or 2 (gallery); None for all 0.
        columns: more facts, ``N`` whole numbers or texts by name, such as ``camera``.
        notes: sentences on what was left out or looks wrong; they are logged as warnings.
    """

    paths: Sequence[str]
    labels: np.ndarray
    classes: Sequence[str]
    roles: np.ndarray | None = None
    columns: Mapping[str, Sequence] = {}
    notes: Sequence[str] = ()


class DatasetSummary(NamedTuple):
    """What a dataset holds, in a line.

    Attributes:
        name: class of the dataset, with the part it holds, such as ``'VehicleID small'``.
        num_images: images.
        num_classes: classes that have an image; 0 if the images have no labels.
        parts: summaries of the parts, of a concatenation.
    """

    name: str
    num_images: int
    num_classes: int
    parts: tuple['DatasetSummary', ...] = ()

    def __str__(self) -> str:
        classes = (
            f'of {self.num_classes:,} class{"es" * (self.num_classes > 1)}' if self.num_classes else 'without labels'
        )
        parts = f' ({"; ".join(map(str, self.parts))})' if self.parts else ''
        return f'{self.name}: {self.num_images:,} images {classes}{parts}'


def checked_paths(samples: Samples, prefix: str, source: str, opened: bool = True) -> list[str]:
    """Return ``N`` paths with the prefix, after a check that each is a local file's and each file has one label.

    Args:
        samples: the whole source.
        prefix: folder or address before the paths.
        source: name of the source, for messages.
        opened: whether the files are going to be opened; otherwise a path may be an address.

    Raises:
        ValueError: a path is an address, or one file has two labels.
    """
    # A list of a stranger must not make this machine open addresses; the prefix, from the config, may be one.
    address = next((path for path in samples.paths if '://' in path), None)
    if opened and address is not None:
        raise ValueError(f'{source} names {printable(address)}, an address; images of a list are local files')
    paths = [osp.join(prefix, path) for path in samples.paths]
    if len(samples.classes):
        names = np.array(samples.classes, dtype=object)[samples.labels]
        try:
            check_one_label_per_image(names, image_ids(paths), paths)
        except ValueError as error:
            raise ValueError(f'{source}: {error}') from None
    return paths


def require_some_files(paths: Sequence[str], source: str, hint: str) -> None:
    """Check that some images are there: a wrong folder ends the run now, a single bad image when it is read.

    Args:
        paths: of the images.
        source: name of the source, and
        hint: where to look, for the message.

    Raises:
        FileNotFoundError: none of ten is there.
    """
    probes = [paths[row] for row in np.linspace(0, len(paths) - 1, min(10, len(paths))).astype(int)]
    if not any(exists(path) for path in probes):
        raise FileNotFoundError(f'{source} finds none of its images, e.g. {printable(osp.abspath(probes[0]))}; {hint}')


def cut_classes(
    samples: Samples, split: str, val_classes: int | float, val_seed: int | None
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Assign numbers to the classes of one split.

    Args:
        samples: the whole source.
        split: one of ``SPLITS``.
        val_classes: share or number of the training classes that are held out.
        val_seed: see :class:`~mmdml.datasets.base.RetrievalDataset`.

    Returns:
        ``(N,)`` new label of each image, -1 for those of other splits; the rows that belong to the split; its class
        names.

    Raises:
        ValueError: no class would be left on one side, the images have no labels to hold out, or ``val_classes`` is no
            number.
    """
    labels = np.asarray(samples.labels, dtype=np.int64)
    if len(samples.classes) == 0:
        if val_classes:
            raise ValueError(f'val_classes={val_classes} holds out classes, but the images have no labels')
        return labels, np.arange(len(labels)), []
    chosen = _choose_classes(len(samples.classes), split, val_classes, val_seed)
    new_label = np.full(len(samples.classes), -1)
    new_label[chosen] = np.arange(len(chosen))
    labels = new_label[labels]
    return labels, np.flatnonzero(labels >= 0), [samples.classes[i] for i in chosen]


def draw_images(labels: np.ndarray, most: int | None, seed: int) -> np.ndarray:
    """Sorted positions of at most some images of each class, all where ``most`` is None.

    The first n of an order that depends on the seed: fewer images are a part of more.

    Args:
        labels: ``(N,)`` integers.
        most: images of a class, at least 1.
        seed: of the draw.

    Raises:
        ValueError: ``most`` is no integer, or below 1.
    """
    if most is None:
        return np.arange(len(labels))
    if not is_whole(most) or most < 1:
        raise ValueError(f'max_per_class must be an integer of at least 1, or None for all images, got {most!r}')
    order = numpy_generator(Stream.IMAGES_OF_CLASS, seed).permutation(len(labels))
    order = order[np.argsort(labels[order], kind='stable')]
    _, starts, sizes = np.unique(labels[order], return_index=True, return_counts=True)
    return np.sort(order[np.arange(len(order)) - np.repeat(starts, sizes) < most])


def _choose_classes(num_classes: int, split: str, val_classes: int | float, val_seed: int | None) -> np.ndarray:
    """Sorted positions of the classes of a split."""
    everything = np.arange(num_classes)
    if split == 'test' or not val_classes:
        return everything
    if not is_number(val_classes):
        raise ValueError(f'val_classes must be a share (a float) or a number (an int) of classes, got {val_classes!r}')
    held_out = val_classes
    if isinstance(held_out, float) and held_out > 0:
        held_out = max(1, round(held_out * num_classes))
    if not 0 < held_out < num_classes:
        raise ValueError(
            f'val_classes={val_classes} holds out {held_out} of {num_classes} training classes; '
            'it must leave at least one class on each side'
        )
    order = everything
    if val_seed is not None:
        order = numpy_generator(Stream.VALIDATION_CLASSES, val_seed).permutation(num_classes)
    return np.sort(order[-held_out:] if split == 'val' else order[:-held_out])
