"""What an evaluation scores: test, validation or training classes, and what of it is trained on."""

import hashlib
from typing import Any

import numpy as np

from mmdml.structures.row_facts import image_identity

_CLASSES = {'train': 'training classes', 'val': 'validation classes', 'test': 'test classes'}


def describe_evaluated(evaluated: Any, trained: Any | None = None) -> str:
    """Name the data of an evaluation: 'test classes', 'test classes, 3 of 100 trained on', 'training classes', ...

    Args:
        evaluated: dataset that is scored.
        trained: dataset that is trained on. None: unknown, and the split alone decides.
    """
    split = getattr(evaluated, 'split', None)
    name = _CLASSES.get(split, 'validation data')
    classes = set(_classes(evaluated))
    if getattr(evaluated, 'metainfo', {}).get('unlabeled'):
        return 'nothing to score'
    common = set() if trained is None else classes & set(_classes(trained))
    if split == 'train' and trained is not None and common != classes:
        # The default split of folders and lists, which may be others than those of the training.
        name, split = ('validation data' if common else 'classes not trained on'), None
    if common and split != 'train':
        pictures = common_pictures(evaluated, trained)
        if len(common) == len(classes):
            name = 'training classes'
        else:
            name += f', {len(common)} of {len(classes)} trained on'
        if pictures is None:
            name += ', whether its pictures are trained on is not known'
        elif pictures:
            name += f', {len(pictures)} of {len(evaluated)} pictures trained on'
        elif len(common) == len(classes):
            name += ', other pictures'
    if len(classes) == 1:
        name += ', one class only: every result is right'
    return name


def common_pictures(first: Any, second: Any) -> dict[int, str] | None:
    """Which pictures of a dataset another one has as well: their rows in ``first``, and what to call them.

    Pictures are compared by their files, however the paths are written. Saved features whose files are not known are
    compared by their values: equal ones are of one picture, and where none are equal, nothing is known.

    Returns:
        None if it is not known.
    """
    files = [_files(each) for each in (first, second)]
    if None not in files:
        others = set(files[1])
        return {row: name for row, name in enumerate(files[0]) if name in others}
    values = [_values(each) for each in (first, second)]
    if None in values:
        return None
    others = set(values[1])
    return {row: f'row {row}' for row, value in enumerate(values[0]) if value in others} or None


def _classes(dataset: Any) -> list[str]:
    return list(getattr(dataset, 'metainfo', {}).get('classes') or [])


def _files(dataset: Any) -> list[str] | None:
    """Return the file of each picture; None if one is not known."""
    if not hasattr(dataset, 'get_data_info'):
        return None
    paths = [str(dataset.get_data_info(number).get('img_path', '')) for number in range(len(dataset))]
    return [image_identity(path) for path in paths] if all(paths) else None


def _values(dataset: Any) -> list[bytes] | None:
    """Return a digest of the features of each row; None if the dataset has none."""
    if not hasattr(dataset, 'features_at'):
        return None
    rows = dataset.features_at(np.arange(len(dataset))).numpy()
    return [hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in rows]
