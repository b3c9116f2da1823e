"""Columns of the kinds of files that embeddings and labels come in: .npz, .npy, .parquet, .txt, .csv and .tsv."""

import os.path as osp
import zipfile
from collections.abc import Callable, Collection
from typing import Any

import numpy as np

from mmdml.utils.arrays import plain_strings
from mmdml.utils.tables import read_lines, read_table

#: What a file may hold, one entry or row an image; in the singular as well. Only embeddings must be there.
COLUMNS = ('embeddings', 'labels', 'roles', 'ids', 'groups', 'parts', 'paths')
#: What an .npz file may hold beside them.
EXTRAS = ('class_names', 'model_hash')
SIDES = ('query_', 'gallery_')
#: Begins the names of further columns, such as ``column_camera``.
COLUMN_PREFIX = 'column_'

Columns = dict[str, np.ndarray]


def read_file(path: str, readers: dict[str, Callable[[str], Columns]]) -> Columns:
    """Columns of a file by the reader of its kind, under their names in the plural.

    Raises:
        FileNotFoundError: if the file is not there.
        ValueError: if it is of another kind, or does not hold what it should.
    """
    kind = osp.splitext(path)[1].lower()
    if kind not in readers:
        raise ValueError(f'{path} is of an unknown kind {kind!r}; known are {list(readers)}')
    if not osp.isfile(path):
        raise FileNotFoundError(f'there is no file {osp.abspath(path)}')
    return readers[kind](path)


def _known(names: Collection[str], prefix: str = '') -> dict[str, str]:
    """Which column each name stands for."""
    forms = {prefix + form: column for column in COLUMNS for form in (column, column[:-1])}
    further = {name: name.removeprefix(prefix) for name in names if name.startswith(prefix + COLUMN_PREFIX)}
    return {name: forms[name] for name in names if name in forms} | further


def _pick(path: str, names: Collection[str], prefix: str, get: Callable[[str], np.ndarray]) -> Columns:
    """Return the known columns out of a file with other ones."""
    picked: Columns = {}
    for name, column in _known(names, prefix).items():
        if column in picked:
            raise ValueError(f'{path} has {prefix + column!r} both in the singular and in the plural')
        picked[column] = get(name)
    return picked


def _read_npz(path: str) -> Columns:
    _check_magic(path, (b'PK\x03\x04', b'PK\x05\x06'), '.npz')
    try:
        file = np.load(path, allow_pickle=False)
    except Exception as error:
        # zipfile, zlib and numpy raise many kinds for a damaged archive.
        raise ValueError(f'{path} cannot be read as .npz, it is damaged or incomplete ({error})') from error
    with file:
        columns: Columns = {}
        for prefix in ('', *SIDES):
            found = _pick(path, file.files, prefix, lambda name: _array(path, name, lambda: file[name]))
            columns |= {prefix + name: values for name, values in found.items()}
        if not any(name.endswith('embeddings') for name in columns):
            raise ValueError(f"{path} has no array 'embeddings' (or 'query_embeddings'), only {sorted(file.files)}")
        for name in set(file.files).intersection(EXTRAS):
            columns[name] = _array(path, name, lambda name=name: file[name])
    return columns


def read_npy(path: str, column: str) -> Columns:
    """Return the one array of an .npy file under a name.

    Raises:
        ValueError: if it is no such file, damaged, or holds Python objects.
    """
    _check_magic(path, (b'\x93NUMPY',), '.npy')
    return {column: _array(path, 'it', lambda: np.load(path, allow_pickle=False))}


def _check_magic(path: str, beginnings: Collection[bytes], kind: str) -> None:
    """Check how a file begins; numpy takes everything else for a pickle."""
    with open(path, 'rb') as file:
        start = file.read(64)
    if not start.startswith(tuple(beginnings)):
        page = start.lstrip().lower().startswith((b'<!doctype', b'<html', b'<?xml'))
        what = (
            'is a web page: its download was answered with an error or a login'
            if page
            else f'begins with {start[:8]!r}'
        )
        raise ValueError(f'{path} is no {kind} file, it {what}' if start else f'{path} is empty')


def _array(path: str, name: str, load: Callable[[], np.ndarray]) -> np.ndarray:
    try:
        return load()
    except ValueError as error:
        if 'allow_pickle' not in str(error):
            raise ValueError(f'{path}: {name} cannot be read ({error})') from error
        raise ValueError(
            f'{path}: {name} cannot be read, it holds Python objects, and reading them may run code: save numbers, or '
            'strings as np.array(labels, dtype=str)'
        ) from None
    except (EOFError, OSError, zipfile.BadZipFile, SyntaxError, TypeError) as error:
        raise ValueError(f'{path}: {name} cannot be read, the file is damaged or incomplete ({error})') from error
    except Exception as error:
        if type(error).__module__ != 'zlib':
            raise
        raise ValueError(f'{path}: {name} cannot be read, the file is damaged ({error})') from error


def _read_parquet(path: str) -> Columns:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ImportError(f'{path}: reading .parquet files needs pyarrow: pip install pyarrow') from error
    try:
        schema = pyarrow.parquet.read_schema(path)
        known = _known(schema.names)
        table = pyarrow.parquet.read_table(path, columns=list(known))
    except (pyarrow.ArrowException, OSError) as error:
        raise ValueError(f'{path} cannot be read as .parquet ({error})') from error

    def get(name: str) -> np.ndarray:
        column = table.column(name)
        if column.null_count:
            raise ValueError(f'{path}: column {name!r} lacks {column.null_count} of {len(column)} values')
        if known[name] == 'embeddings':
            return _parquet_matrix(path, name, column)
        if pyarrow.types.is_dictionary(column.type):
            # Categories become what they stand for.
            column = column.cast(column.type.value_type)
        return plain_strings(column.to_numpy())

    columns = _pick(path, schema.names, '', get)
    if 'embeddings' not in columns:
        raise ValueError(f"{path} has no column 'embeddings', only {sorted(schema.names)}")
    return columns


def _parquet_matrix(path: str, name: str, column: Any) -> np.ndarray:
    """``(N, D)`` of a column of lists of numbers, or of vectors as tensors of one shape."""
    import pyarrow
    import pyarrow.compute

    kind = column.type
    if isinstance(kind, pyarrow.FixedShapeTensorType):
        if len(kind.shape) != 1:
            raise ValueError(f'{path}: column {name!r} must hold vectors, got tensors of shape {tuple(kind.shape)}')
        column = pyarrow.chunked_array([chunk.storage for chunk in column.chunks], kind.storage_type)
    if pyarrow.types.is_dictionary(kind):
        column = column.cast(kind.value_type)
    if not hasattr(column.type, 'value_type'):
        raise ValueError(f'{path}: column {name!r} must hold lists of numbers, got {column.type}')
    widths = pyarrow.compute.unique(pyarrow.compute.list_value_length(column)).to_pylist()
    if len(widths) > 1:
        raise ValueError(f'{path}: the lists of column {name!r} must be of one length, got {sorted(widths)[:5]}')
    values = pyarrow.compute.list_flatten(column)
    if values.null_count:
        raise ValueError(f'{path}: the lists of column {name!r} lack {values.null_count} numbers')
    return values.to_numpy().reshape(len(column), widths[0] if widths else 0)


def _read_label_lines(path: str) -> Columns:
    """One label a line; blanks around it do not count, nor do empty lines at the end."""
    labels = [line.strip() for line in read_lines(path)]
    while labels and not labels[-1]:
        labels.pop()
    if '' in labels:
        raise ValueError(f'{path}, line {labels.index("") + 1}: there is no label')
    return {'labels': np.array(labels, dtype=np.str_)}


def _read_label_table(path: str) -> Columns:
    table = read_table(path)
    columns = _pick(path, table.header, '', lambda name: np.array(table.column(name), dtype=np.str_))
    if 'embeddings' in columns:
        raise ValueError(f'{path}: embeddings are not read from text tables')
    if 'labels' not in columns:
        raise ValueError(f"{path} has no column 'labels', its header names {table.header}")
    for name, values in columns.items():
        may_be_blank = name == 'paths' or name.startswith(COLUMN_PREFIX)
        blank = () if may_be_blank else np.flatnonzero(np.char.strip(values) == '')
        if len(blank):
            line = table.lines[int(blank[0])]
            raise ValueError(f'{path}, line {line}: {name} are missing')
    return columns


EMBEDDING_READERS: dict[str, Callable[[str], Columns]] = {
    '.npz': _read_npz,
    '.npy': lambda path: read_npy(path, 'embeddings'),
    '.parquet': _read_parquet,
}
LABEL_READERS: dict[str, Callable[[str], Columns]] = {
    '.npy': lambda path: read_npy(path, 'labels'),
    '.txt': _read_label_lines,
    '.csv': _read_label_table,
    '.tsv': _read_label_table,
}
