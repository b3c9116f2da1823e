"""A folder or a list of one's own pictures as the data of a run."""

import os
from dataclasses import dataclass
from typing import Any

import numpy as np

from mmdml.datasets.image_list import is_table
from mmdml.datasets.preparation.image_check import distinct_images, open_images
from mmdml.registry import DATASETS
from mmdml.structures.row_facts import ROLE_NAMES
from mmdml.utils.machine import available_cores
from mmdml.utils.names import printable
from mmdml.utils.tables import read_lines

# Broken pictures that an error names.
_SHOWN = 10
# Share of the classes.
_HELD_OUT = 0.2


@dataclass(frozen=True)
class OwnData:
    """Pictures with classes.

    Attributes:
        settings: of the dataset, without split and pipeline; paths are absolute.
        name: of the folder or list, without ending.
        classes: names.
        sizes: ``(C,)`` pictures of each class.
    """

    settings: dict[str, Any]
    name: str
    classes: list[str]
    sizes: np.ndarray

    def __str__(self) -> str:
        return f'{self.sizes.sum():,} pictures of {len(self.classes):,} classes'


def read_own_data(path: str) -> OwnData:
    """List the pictures of a folder with a folder a class, or of a list.

    Args:
        path: of the folder, or of a list or table; paths in a list are relative to its folder, and its lines are
            "path label" or "path label role".

    Raises:
        FileNotFoundError: there is no such file or folder, or no picture.
        ValueError: a list that cannot be read, or images that cannot be had; see the datasets.
    """
    path = os.path.abspath(path)
    if os.path.isdir(path):
        if not any(each.is_dir() and each.name[0] != '.' for each in os.scandir(path)):
            raise ValueError(
                f'{printable(path)} has no folders in it: make one for each class, named as the class is, or name a '
                'list with lines "path label"'
            )
        settings = dict(type='ImageFolder', data_root=path)
    elif os.path.isfile(path):
        settings = dict(type='ImageList', data_root=os.path.dirname(path), ann_file=path)
        if _has_roles(path):
            settings['roles'] = True
    else:
        raise FileNotFoundError(f'there is no folder or list {printable(path)}')
    dataset = DATASETS.build(dict(**settings, split='test', test_mode=True))
    classes = dataset.metainfo['classes']
    name = os.path.splitext(os.path.basename(path))[0] if os.path.isfile(path) else os.path.basename(path)
    return OwnData(settings, name, classes, np.bincount(dataset.labels, minlength=len(classes)))


def _has_roles(path: str) -> bool:
    """Whether the first line of a plain list has a role behind path and label."""
    if is_table(path):
        return False
    lines = (line.strip() for line in read_lines(path))
    first = next((line for line in lines if line and line[0] != '#'), '')
    if len(first.split()) < 3:
        return False
    before, last = first.rsplit(maxsplit=1)
    # A class can have the name of a role; then what stands before it is a file.
    return last in ROLE_NAMES and not os.path.isfile(os.path.join(os.path.dirname(path), before))


def require_trainable(data: OwnData, path: str) -> None:
    """Check that there is something to learn.

    Raises:
        ValueError: fewer than two classes, or fewer than two that have two pictures.
    """
    path = printable(path)
    if len(data.classes) < 2:
        raise ValueError(
            f'{path} has one class, {printable(data.classes[0])}: a model learns from pictures of different classes. '
            'Make a folder for each class, or name the folder above'
        )
    learnable = int((data.sizes > 1).sum())
    if learnable < 2:
        raise ValueError(
            f'{path} has {learnable} classes with two pictures or more, and {len(data.classes) - learnable} with one: '
            'a model learns from pictures of the same class. Add pictures to two classes at least'
        )


def require_readable(data: OwnData) -> None:
    """Open all pictures, so that a training does not end at one of them after hours.

    Raises:
        ValueError: some cannot be read; it names the first of them.
    """
    dataset = DATASETS.build(dict(**data.settings, split='test', test_mode=True))
    broken = open_images(distinct_images([dataset]), available_cores())
    if broken:
        named = '; '.join(f'{printable(path)} {printable(problem)}' for path, problem in broken[:_SHOWN])
        more = f'; and {len(broken) - _SHOWN} more' if len(broken) > _SHOWN else ''
        raise ValueError(f'{len(broken)} pictures cannot be learned from, remove them: {named}{more}')


def folder_of_pictures(data: OwnData) -> str:
    """Return the folder that all pictures lie in or below; 'FOLDER' where only the root is one."""
    dataset = DATASETS.build(dict(**data.settings, split='test', test_mode=True))
    folders = {os.path.dirname(dataset.get_data_info(row)['img_path']) for row in range(len(dataset))}
    folder = os.path.commonpath(folders)
    return 'FOLDER' if folder == os.path.dirname(folder) else folder


def held_out_classes(data: OwnData, share: float | None) -> int:
    """Return how many classes to hold out: at least two, or none.

    Args:
        data: all classes.
        share: of the classes; None: a fifth, and none where fewer than two would be left.

    Raises:
        ValueError: the share leaves fewer than two classes.
    """
    if share == 0:
        return 0
    classes = len(data.classes)
    number = max(2, round((_HELD_OUT if share is None else share) * classes))
    if classes - number >= 2:
        return number
    if share is None:
        return 0
    most = f'at most {(classes - 2) / classes:.2g}, or ' if classes >= 4 else ''
    raise ValueError(
        f'--hold-out {share:g} holds {number} of {classes} classes out, and a model learns from two at least: '
        f'{most}--hold-out 0, which scores nothing'
    )


def largest_trained_class(data: OwnData, held_out: int, seed: int) -> int:
    """Return how many pictures the largest class has that is trained on.

    Args:
        data: all classes.
        held_out: number of classes that are not trained on.
        seed: of their choice.

    Raises:
        ValueError: none of them has two pictures.
    """
    part = dict(split='train', val_classes=held_out, val_seed=seed)
    largest = int(np.bincount(DATASETS.build(dict(**data.settings, **part)).labels).max())
    if largest < 2:
        raise ValueError(
            f'all classes with two pictures or more are among the {held_out} that are held out, and a model learns '
            'from pictures of the same class. Add pictures, or hold none out: --hold-out 0'
        )
    return largest


def pictures_in_a_batch(given: int | None, default: int, each: int, classes: int) -> int:
    """Return the size of a batch.

    Args:
        given: as an option says it; None for none.
        default: largest size where nothing is given.
        each: pictures of a class in a batch.
        classes: number of classes that are trained on.

    Raises:
        ValueError: ``given`` cannot be made of the classes.
    """
    if given is None:
        return min(default // each, classes) * each
    if given % each or given > each * classes:
        raise ValueError(
            f'--batch-size {given} must be a multiple of {each}, the pictures of a class in a batch, and at most '
            f'{each * classes}: there are {classes} classes to train on'
        )
    return given
