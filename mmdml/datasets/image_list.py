"""Pictures listed in a text file."""

import os.path as osp
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from mmdml.datasets.base import RetrievalDataset, Samples
from mmdml.registry import DATASETS
from mmdml.structures.row_facts import QUERY_AND_GALLERY, ROLE_NAMES
from mmdml.utils.tables import read_lines


@DATASETS.register_module()
class ImageList(RetrievalDataset):
    """A text file with one image a line: ``path label``.

    The label is what follows the last blank, so paths may hold blanks. If all labels are whole numbers, classes are
    ordered by number, else by name. Empty lines and lines that begin with ``#`` are skipped. There is one file per
    split; ``split='train'`` and ``'val'`` cut the classes of one training file, ``'test'`` takes the whole file.

    Args:
        ann_file: the text file, UTF-8, relative to ``data_root`` or absolute.
        roles: lines have a third column, ``query``, ``gallery`` or ``both``: ``path label role``.
        kwargs: see :class:`mmdml.datasets.base.RetrievalDataset`.

    Raises:
        FileNotFoundError: the file or the images are not there.
        ValueError: a line that cannot be read (names file, line number and line), a path with two labels, or whole
            numbers that are one class by value and two by their text, as 1 and 01.

    Example:
        >>> dataset = dict(type='ImageList', data_root='photos', ann_file='train.txt', val_classes=0.2, pipeline=[...])
    """

    def __init__(self, ann_file: str, roles: bool = False, **kwargs) -> None:
        self.roles = roles
        super().__init__(ann_file=ann_file, **kwargs)

    def load_samples(self) -> Samples:
        """Read the list."""
        if not osp.isfile(self.ann_file):
            raise FileNotFoundError(
                f'ImageList finds no list {osp.abspath(self.ann_file)}; '
                f'write one with a line "path{" label role" if self.roles else " label"}" for each image'
            )
        paths, names, roles = [], [], []
        for path, name, role in self._parse():
            paths.append(path)
            names.append(name)
            roles.append(role)
        try:
            classes, labels = _number(names)
        except ValueError as error:
            raise ValueError(f'{osp.abspath(self.ann_file)}: {error}') from None
        return Samples(paths, labels, classes, np.array(roles, dtype=np.int64))

    def _parse(self) -> list[tuple[str, str, int]]:
        rows, label_of = [], {}
        path_of_list = osp.abspath(self.ann_file)
        columns = 3 if self.roles else 2
        for number, line in enumerate(read_lines(self.ann_file), 1):
            line = line.strip()
            if not line or line.startswith('#'):
                continue
            fields = line.rsplit(maxsplit=columns - 1)
            if len(fields) != columns or (self.roles and fields[2] not in ROLE_NAMES):
                wanted = '"path label role" with role query, gallery or both' if self.roles else '"path label"'
                raise ValueError(f'{path_of_list}, line {number}: expected {wanted}, got {line!r}')
            path, label = fields[:2]
            if label_of.setdefault(path, label) != label:
                raise ValueError(
                    f'{path_of_list}, line {number}: {path} has label {label!r}, but {label_of[path]!r} above; '
                    'an image has one label'
                )
            rows.append((path, label, ROLE_NAMES[fields[2]] if self.roles else QUERY_AND_GALLERY))
        return rows


def _number(names: Sequence[str]) -> tuple[list[str], np.ndarray]:
    """Ordered class names, and the position of each image's class among them."""
    classes = sorted(set(names))
    try:
        numbers = {name: int(name) for name in classes}
    except ValueError:
        pass
    else:
        classes.sort(key=numbers.get)
        for first, second in pairwise(classes):
            if numbers[first] == numbers[second]:
                raise ValueError(f'the labels {first!r} and {second!r} are the same number; write it in one way')
    position = {name: i for i, name in enumerate(classes)}
    return classes, np.array([position[name] for name in names], dtype=np.int64)
