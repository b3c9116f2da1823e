"""Saved embeddings of any origin: what is in a .npz, .npy or .parquet file."""

import csv
import os.path as osp
from collections.abc import Callable, Collection

import numpy as np

from mmdml.structures.row_facts import GALLERY, QUERY, QUERY_AND_GALLERY, RowFacts

from .inputs import plain_strings

#: What a file may hold, one entry or row an image; in the singular as well. Only embeddings must be there.
COLUMNS = ('embeddings', 'labels', 'roles', 'ids', 'groups', 'parts')
_SIDES = {'query_': QUERY, 'gallery_': GALLERY}

Columns = dict[str, np.ndarray]


def read_columns(path: str, labels: str | None = None) -> Columns:
    """Embeddings, and what else is known of them.

    ==========  ========================================================================================
    file        holds
    ==========  ========================================================================================
    .npz        arrays ``embeddings (N, D)``, ``labels (N,)``, and optionally ``roles``, ``ids``, ``groups``, ``parts``;
                or all of them twice, as ``query_embeddings``, ``gallery_embeddings``, ... Others are not looked at
    .npy        embeddings ``(N, D)`` alone
    .parquet    columns of the same names, embeddings as lists of numbers (needs pyarrow)
    ==========  ========================================================================================

    Names in the singular are as good (``label``). Roles are 0 (query and gallery), 1 (query) or 2 (gallery). Nothing
    is unpickled.

    Args:
        path: of the embeddings.
        labels: file of the labels, where the other one has none: ``.npy``, ``.txt`` with one a line, or ``.csv`` with
            a header that names ``labels`` and optionally the other columns.

    Returns:
        Arrays by name, in the plural; both sides one after the other with their roles, if there are two.

    Raises:
        FileNotFoundError: if a file is not there.
        ValueError: if a file is of another kind, or does not hold what it should.
        ImportError: if a .parquet file is to be read without pyarrow.
    """
    columns = _join_sides(path, _read(path, _READERS))
    embeddings = columns['embeddings']
    if embeddings.ndim != 2 or embeddings.dtype.kind not in 'fiu':
        raise ValueError(
            f'{path}: embeddings must be numbers of shape (N, D), got {embeddings.dtype} of shape {embeddings.shape}'
        )
    if labels is not None:
        more = _read(labels, _LABEL_READERS)
        if 'labels' not in more:
            raise ValueError(f"{labels} has no column 'labels', its header names {sorted(more)}")
        both = sorted(set(columns) & set(more))
        if both:
            raise ValueError(f'{both} are in {path} as well as in {labels}: which are to be used?')
        columns |= more
    if 'roles' in columns:
        columns['roles'] = _roles(path, columns['roles'])
    return columns


def read_facts(path: str, columns: Columns) -> RowFacts:
    """What :func:`read_columns` found, beside the embeddings.

    Raises:
        ValueError: if there are no labels, or not one per embedding.
    """
    if 'labels' not in columns:
        raise ValueError(f'{path} has no labels, only {sorted(columns)}: name a file of them')
    rows = len(columns['embeddings'])
    facts = RowFacts.of(**{name: values for name, values in columns.items() if name != 'embeddings'})
    if len(facts) != rows:
        raise ValueError(f'{path}: there are {rows} embeddings, but {len(facts)} labels')
    return facts


def _read(path: str, readers: dict[str, Callable[[str], Columns]]) -> Columns:
    kind = osp.splitext(path)[1].lower()
    if kind not in readers:
        raise ValueError(f'{path} is of an unknown kind {kind!r}; known are {list(readers)}')
    if not osp.isfile(path):
        raise FileNotFoundError(f'there is no file {osp.abspath(path)}')
    return readers[kind](path)


def _known(names: Collection[str], prefix: str = '') -> dict[str, str]:
    """Which of our columns each name stands for."""
    forms = {prefix + form: column for column in COLUMNS for form in (column, column[:-1])}
    return {name: forms[name] for name in names if name in forms}


def _pick(path: str, names: Collection[str], prefix: str, get: Callable[[str], np.ndarray]) -> Columns:
    """Our columns out of a file with other ones."""
    picked: Columns = {}
    for name, column in _known(names, prefix).items():
        if column in picked:
            raise ValueError(f'{path} has {prefix + column!r} both in the singular and in the plural')
        picked[column] = get(name)
    return picked


def _read_npz(path: str) -> Columns:
    with np.load(path, allow_pickle=False) as file:
        columns: Columns = {}
        for prefix in ('', *_SIDES):
            found = _pick(path, file.files, prefix, lambda name: _array(path, name, lambda: file[name]))
            columns |= {prefix + name: values for name, values in found.items()}
        if not any(name.endswith('embeddings') for name in columns):
            raise ValueError(f"{path} has no array 'embeddings' (or 'query_embeddings'), only {sorted(file.files)}")
    return columns


def _read_npy(path: str) -> Columns:
    return {'embeddings': _array(path, 'it', lambda: np.load(path, allow_pickle=False))}


def _read_npy_labels(path: str) -> Columns:
    return {'labels': _array(path, 'it', lambda: np.load(path, allow_pickle=False))}


def _array(path: str, name: str, load: Callable[[], np.ndarray]) -> np.ndarray:
    try:
        return load()
    except ValueError as error:
        raise ValueError(
            f'{path}: {name} cannot be read ({error}). Objects are not, as reading them may run code: save numbers, '
            'or strings as np.array(labels, dtype=str)'
        ) from error


def _read_parquet(path: str) -> Columns:
    try:
        import pyarrow.compute
        import pyarrow.parquet
    except ImportError as error:
        raise ImportError(f'{path}: reading .parquet files needs pyarrow: pip install pyarrow') from error
    schema = pyarrow.parquet.read_schema(path)
    known = _known(schema.names)
    table = pyarrow.parquet.read_table(path, columns=list(known))

    def get(name: str) -> np.ndarray:
        column = table.column(name)
        if pyarrow.types.is_dictionary(column.type):
            # Categories become what they stand for.
            column = column.cast(column.type.value_type)
        if column.null_count:
            raise ValueError(f'{path}: column {name!r} lacks {column.null_count} of {len(column)} values')
        if known[name] != 'embeddings':
            return plain_strings(column.to_numpy())
        if not hasattr(column.type, 'value_type'):
            raise ValueError(f'{path}: column {name!r} must hold lists of numbers, got {column.type}')
        widths = pyarrow.compute.unique(pyarrow.compute.list_value_length(column)).to_pylist()
        if len(widths) != 1:
            raise ValueError(f'{path}: the lists of column {name!r} must be of one length, got {sorted(widths)[:5]}')
        return pyarrow.compute.list_flatten(column).to_numpy().reshape(len(column), widths[0])

    columns = _pick(path, schema.names, '', get)
    if 'embeddings' not in columns:
        raise ValueError(f"{path} has no column 'embeddings', only {sorted(schema.names)}")
    return columns


def _read_txt(path: str) -> Columns:
    with open(path, encoding='utf-8-sig') as file:
        return {'labels': np.array(file.read().splitlines(), dtype=np.str_)}


def _read_csv(path: str) -> Columns:
    with open(path, encoding='utf-8-sig', newline='') as file:
        rows = list(csv.reader(file))
    if not rows:
        raise ValueError(f'{path} is empty')
    header, body = rows[0], rows[1:]
    for number, row in enumerate(body, start=2):
        if len(row) != len(header):
            raise ValueError(f'{path}, row {number}: expected {len(header)} values, got {row}')
    columns = _pick(path, header, '', lambda name: np.array([row[header.index(name)] for row in body], dtype=np.str_))
    if 'embeddings' in columns:
        raise ValueError(f'{path}: embeddings are not read from .csv files')
    return columns


_READERS: dict[str, Callable[[str], Columns]] = {'.npz': _read_npz, '.npy': _read_npy, '.parquet': _read_parquet}
_LABEL_READERS: dict[str, Callable[[str], Columns]] = {
    '.npy': _read_npy_labels,
    '.txt': _read_txt,
    '.csv': _read_csv,
}


def _join_sides(path: str, columns: Columns) -> Columns:
    """Query and gallery one after the other, with their roles."""
    sides = {prefix: {name for name in columns if name.startswith(prefix)} for prefix in _SIDES}
    if not any(sides.values()):
        return columns
    names = [{name.removeprefix(prefix) for name in found} for prefix, found in sides.items()]
    mixed = sorted(set(columns) - set.union(*sides.values()))
    if mixed or names[0] != names[1] or 'roles' in names[0]:
        raise ValueError(
            f'{path} must hold the same arrays with query_ as with gallery_, and no others and no roles; it holds '
            f'{sorted(columns)}'
        )
    joined = {}
    for name in names[0]:
        query, gallery = columns['query_' + name], columns['gallery_' + name]
        if (query.dtype.kind in 'US') != (gallery.dtype.kind in 'US'):
            # numpy would make strings of both.
            raise ValueError(
                f'{path}: query_{name} are {query.dtype}, gallery_{name} {gallery.dtype}: nothing would match'
            )
        if query.shape[1:] != gallery.shape[1:]:
            raise ValueError(f'{path}: query_{name} are of shape {query.shape}, gallery_{name} of {gallery.shape}')
        joined[name] = np.concatenate([query, gallery])
    sizes = [len(columns[prefix + 'embeddings']) for prefix in _SIDES]
    return joined | {'roles': np.repeat(list(_SIDES.values()), sizes)}


def _roles(path: str, roles: np.ndarray) -> np.ndarray:
    try:
        return roles.astype(np.int64, casting='unsafe' if roles.dtype.kind in 'US' else 'safe')
    except (TypeError, ValueError) as error:
        known = (QUERY_AND_GALLERY, QUERY, GALLERY)
        raise ValueError(f'{path}: roles must be of {known} (both, query, gallery): {error}') from error
