"""Pictures listed in a text file or table."""

import os.path as osp
import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from mmdml.datasets.base import RetrievalDataset
from mmdml.datasets.samples import Samples
from mmdml.registry import DATASETS
from mmdml.structures.label_relations import read_label
from mmdml.structures.row_facts import ROLE_NAMES, image_identity
from mmdml.utils.tables import read_lines, read_table, whole_number

# Names that a data info has for other things.
_RESERVED = ('img_path', 'gt_label', 'sample_idx', 'img', 'img_row')


class _Row(NamedTuple):
    line: int
    path: str
    label: str
    role: int


@DATASETS.register_module()
class ImageList(RetrievalDataset):
    """Images that a file lists, one a line.

    A **table** (comma, semicolon or tab separated values) has a header with the columns ``path``, ``label`` (not for
    ``unlabeled=True``), optionally ``role`` (``query``, ``gallery`` or ``both``), and any others, such as ``camera``::

        path,label,role,camera
        a.jpg,wren,query,c1
        b.jpg,wren,gallery,c2

    Other columns are in each data info by their name, in lower case: as whole numbers if all their values are, else as
    text. Put the name into ``meta_keys`` of ``PackInputs`` to have it in the samples, e.g. for
    ``RetrievalMetric(groups='camera')``.

    A **plain list** has lines ``path label``, or ``path label role`` with ``roles=True``. The label is what follows the
    last blank, so paths may hold blanks. Empty lines and lines that begin with ``#`` are skipped.

    A file is read as a table if its name ends in ``.csv`` or ``.tsv``, or its first line names a column ``path``. If
    all labels are whole numbers in digits, classes are ordered by number, else by name. There is one file per split;
    ``split='train'`` and ``'val'`` cut the classes of one training file, ``'test'`` takes the whole file.

    Args:
        ann_file: the file, in UTF-8 (or UTF-16 with a byte order mark), relative to ``data_root`` or absolute.
        roles: lines of a plain list have a role; a table must have the column.
        unlabeled: the images have no labels; they can be embedded, not trained on or scored. A plain list then has
            lines ``path``; a column ``label`` of a table is refused.
        separator: parts a label cell of several labels, such as ``cat|indoor``: the first is the class of the image,
            and a column ``labels`` has the whole cell. Labels may have weights, ``cat=0.7|dog=0.3``. Default: a cell
            is one label.
        class_file: table of facts of the classes, relative to ``data_root`` or absolute: its column ``label`` names the
            classes, each other one becomes a column of their images, such as ``coarse``.
        kwargs: see :class:`mmdml.datasets.base.RetrievalDataset`.

    Raises:
        FileNotFoundError: the file or the images are not there.
        ValueError: a line or header that cannot be read (names file, line number and line), a file with two labels, or
            whole numbers that are one class by value and two by their text, as 1 and 01.

    Config::

        dataset = dict(type='ImageList', data_root='photos', ann_file='train.txt', val_classes=0.2, pipeline=[...])
    """

    def __init__(
        self,
        ann_file: str,
        roles: bool = False,
        unlabeled: bool = False,
        separator: str | None = None,
        class_file: str | None = None,
        **kwargs,
    ) -> None:
        if unlabeled and (separator or class_file):
            raise ValueError('separator and class_file are about labels, but unlabeled=True has none')
        self.roles = roles
        self.unlabeled = unlabeled
        self.separator = separator
        self.class_file = class_file
        super().__init__(ann_file=ann_file, **kwargs)

    def load_samples(self) -> Samples:
        """Read the list."""
        if not osp.isfile(self.ann_file):
            raise FileNotFoundError(
                f'ImageList finds no list {osp.abspath(self.ann_file)}; write one with a line "{self._form()}" for '
                'each image, or a table with such a header'
            )
        columns = {}
        if is_table(self.ann_file):
            rows, columns = self._read_table()
        else:
            rows = list(self._read_plain_list())
        paths = [row.path for row in rows]
        roles = np.array([row.role for row in rows], dtype=np.int64)
        if self.unlabeled:
            return Samples(paths, np.full(len(rows), -1), [], roles, columns)
        self._check_labels(rows)
        names = [row.label for row in rows]
        if self.separator:
            if 'labels' in columns:
                raise ValueError(f"{osp.abspath(self.ann_file)} has a column 'labels', which separator= would replace")
            cells = ['|'.join(name.split(self.separator)) for name in names]
            names = [read_label(cell.split('|')[0], 'label', cell)[0] for cell in cells]
            if '' in names:
                line = rows[names.index('')].line
                raise ValueError(f'{osp.abspath(self.ann_file)}, line {line}: the first label is empty')
            columns = {**columns, 'labels': np.array(cells, dtype=np.str_)}
        if self.class_file:
            facts = self._class_columns(names)
            taken = [name for name in facts if name in (*_RESERVED, 'role', *columns)]
            if taken:
                raise ValueError(f'{self.class_file} has a column {taken[0]!r}; the name is taken')
            columns = {**columns, **facts}
        try:
            classes, labels = number_classes(names)
        except ValueError as error:
            raise ValueError(f'{osp.abspath(self.ann_file)}: {error}') from None
        return Samples(paths, labels, classes, roles, columns)

    def _form(self) -> str:
        return 'path' + ('' if self.unlabeled else ' label') + (' role' if self.roles else '')

    def _read_plain_list(self) -> Iterator[_Row]:
        names = self._form().split()
        for number, line in enumerate(read_lines(self.ann_file), 1):
            line = line.strip()
            if not line or line.startswith('#'):
                continue
            row = dict(zip(names, line.rsplit(maxsplit=len(names) - 1), strict=False))
            if len(row) != len(names) or row.get('role', 'both') not in ROLE_NAMES:
                note = ' with role query, gallery or both' if self.roles else ''
                raise ValueError(
                    f'{osp.abspath(self.ann_file)}, line {number}: expected "{self._form()}"{note}, got {line!r}'
                )
            yield _Row(number, row['path'], row.get('label', ''), ROLE_NAMES[row.get('role', 'both')])

    def _read_table(self) -> tuple[list[_Row], dict[str, np.ndarray]]:
        """Rows, and the values of other columns by name."""
        table, where = read_table(self.ann_file), osp.abspath(self.ann_file)
        missing = [name for name in self._form().split() if name not in table.header]
        if missing:
            hint = '; images without labels are read with unlabeled=True' if missing == ['label'] else ''
            raise ValueError(f'{where} has no column {missing[0]!r}, its header names {table.header}{hint}')
        wrong = [name for name in (*_RESERVED, *(('label',) if self.unlabeled else ())) if name in table.header]
        if wrong:
            hint = 'unlabeled=True is for images without labels' if wrong == ['label'] else 'the name is taken'
            raise ValueError(f'{where} has a column {wrong[0]!r}; {hint}')
        cells = {name: table.column(name) for name in table.header}
        paths = cells.pop('path')
        labels = cells.pop('label', [''] * len(paths))
        roles = cells.pop('role', ['both'] * len(paths))
        for line, path, label, role in zip(table.lines, paths, labels, roles, strict=True):
            empty = 'path' if not path.strip() else 'label' if not (label.strip() or self.unlabeled) else ''
            if empty:
                raise ValueError(f'{where}, line {line}: the {empty} is empty')
            if role.casefold() not in ROLE_NAMES:
                raise ValueError(f'{where}, line {line}: expected a role query, gallery or both, got {role!r}')
        numbers = [ROLE_NAMES[role.casefold()] for role in roles]
        rows = list(map(_Row, table.lines, paths, labels, numbers))
        return rows, {name: _values(texts) for name, texts in cells.items()}

    def _class_columns(self, names: Sequence[str]) -> dict[str, np.ndarray]:
        """Facts of the class of each image, by the columns of the file of classes."""
        path = self.class_file if osp.isabs(self.class_file) else osp.join(self.data_root, self.class_file)
        table, where = read_table(path), osp.abspath(path)
        if 'label' not in table.header:
            raise ValueError(f"{where} has no column 'label', its header names {table.header}")
        line_of = {label: line for line, label in enumerate(table.column('label'))}
        if len(line_of) < len(table.rows):
            raise ValueError(f'{where} has a label twice')
        missing = sorted(set(names) - set(line_of))
        if missing:
            raise ValueError(f'{where} lacks {len(missing)} of the labels, the first is {missing[0]!r}')
        facts = {name: _values(table.column(name)) for name in table.header if name != 'label'}
        lines = [line_of[name] for name in names]
        return {name: values[lines] for name, values in facts.items()}

    def _check_labels(self, rows: Sequence[_Row]) -> None:
        """Check that each file, by whatever names, has one label."""
        first_of: dict[str, _Row] = {}
        prefix = self.data_prefix.get('img_path', '')
        for row in rows:
            first = first_of.setdefault(image_identity(osp.join(prefix, row.path)), row)
            if first.label != row.label:
                also = f' in line {first.line}, as {first.path}' if first.path != row.path else ''
                raise ValueError(
                    f'{osp.abspath(self.ann_file)}, line {row.line}: {row.path} has label {row.label!r}, but '
                    f'{first.label!r} above{also}; an image has one label'
                )


def is_table(path: str) -> bool:
    """Whether a list is a table: by its name, or a first line that names a column ``path``."""
    if path.lower().endswith(('.csv', '.tsv')):
        return True
    first = next((line for line in read_lines(path) if line.strip()), '')
    cells = [cell.strip(' "').casefold() for cell in re.split(r'[,;\t]', first)]
    return len(cells) > 1 and 'path' in cells


def _values(texts: Sequence[str]) -> np.ndarray:
    """Values of a column: whole numbers if all are, written as numbers are (007 is a text)."""
    numbers = [whole_number(text) for text in texts]
    if None not in numbers and all(
        str(number) == text and abs(number) < 2**63 for number, text in zip(numbers, texts, strict=True)
    ):
        return np.array(numbers, dtype=np.int64)
    return np.array(texts, dtype=np.str_)


def number_classes(names: Sequence[str], order: Sequence[str] = ()) -> tuple[list[str], np.ndarray]:
    """Order class names, and number them.

    Args:
        names: class of each image.
        order: all class names, in an order that is known. Default: by number if all are whole numbers, else by name.

    Returns:
        The names that occur, and the position of each image's class among them.

    Raises:
        ValueError: two names are one number, such as 1 and 01.
    """
    classes = sorted(set(names))
    if set(classes) <= set(order):
        classes = [name for name in order if name in set(classes)]
        position = {name: label for label, name in enumerate(classes)}
        return classes, np.array([position[name] for name in names], dtype=np.int64)
    numbers = {name: whole_number(name) for name in classes}
    if None not in numbers.values():
        classes.sort(key=numbers.get)
        for first, second in pairwise(classes):
            if numbers[first] == numbers[second]:
                raise ValueError(f'the labels {first!r} and {second!r} are the same number; write it in one way')
    position = {name: i for i, name in enumerate(classes)}
    return classes, np.array([position[name] for name in names], dtype=np.int64)
