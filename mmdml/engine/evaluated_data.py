"""What an evaluation scores: test, validation or training classes, and what of it is trained on."""

from typing import Any

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
        pictures = len(common_pictures(evaluated, trained))
        if len(common) == len(classes):
            name = 'training classes'
        else:
            name += f', {len(common)} of {len(classes)} trained on'
        if pictures:
            name += f', {pictures} of {len(evaluated)} pictures trained on'
        elif len(common) == len(classes):
            name += ', other pictures'
    if len(classes) == 1:
        name += ', one class only: every result is right'
    return name


def common_pictures(first: Any, second: Any) -> set[str]:
    """Files that two datasets share, however their paths are written."""
    return _pictures(first) & _pictures(second)


def _classes(dataset: Any) -> list[str]:
    return list(getattr(dataset, 'metainfo', {}).get('classes') or [])


def _pictures(dataset: Any) -> set[str]:
    if not hasattr(dataset, 'get_data_info'):
        return set()
    paths = (dataset.get_data_info(number).get('img_path', '') for number in range(len(dataset)))
    return {image_identity(str(path)) for path in paths if path}
