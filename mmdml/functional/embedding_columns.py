"""Columns of a file of embeddings, joined from two sides and checked."""

import numpy as np

from mmdml.structures.row_facts import GALLERY, QUERY, ROLE_NAMES
from mmdml.utils.arrays import plain_bytes, plain_strings

from .embedding_readers import COLUMN_PREFIX, COLUMNS, EXTRAS, SIDES, Columns


def join_sides(path: str, columns: Columns) -> Columns:
    """Query and gallery one after the other, with their roles.

    Raises:
        ValueError: one side lacks an array, has another one, or not one entry for each of its embeddings; a further
            column is there for both sides together and for each.
    """
    aside = [name for name in columns if name in EXTRAS or name.startswith(COLUMN_PREFIX)]
    extras = {name: columns.pop(name) for name in aside}
    sides = {prefix: {name for name in columns if name.startswith(prefix)} for prefix in SIDES}
    if not any(sides.values()):
        return columns | extras
    names = [{name.removeprefix(prefix) for name in found} for prefix, found in sides.items()]
    mixed = sorted(set(columns) - set.union(*sides.values()))
    if mixed or names[0] != names[1] or 'roles' in names[0]:
        raise ValueError(
            f'{path} must hold the same arrays with query_ as with gallery_, and no others and no roles; it holds '
            f'{sorted(columns)}'
        )
    for prefix in SIDES:
        for name in names[0]:
            _check_rows(path, columns, name, prefix)
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
        if name in COLUMNS[1:]:
            # Of unsigned and signed integers numpy would make fractions.
            query, gallery = _keys(path, f'query_{name}', query), _keys(path, f'gallery_{name}', gallery)
        joined[name] = np.concatenate([query, gallery])
    twice = sorted(set(joined) & set(extras))
    if twice:
        raise ValueError(f'{path} has {twice[0]!r} of both sides together, and of each of them: which is to be used?')
    sizes = [len(columns[prefix + 'embeddings']) for prefix in SIDES]
    return joined | extras | {'roles': np.repeat([QUERY, GALLERY], sizes)}


def checked_columns(path: str, columns: Columns) -> Columns:
    """Columns of one entry for each embedding, as integers or strings; paths are strings.

    Args:
        path: of the file, for messages.
        columns: by name, with ``embeddings (N, D)``.

    Raises:
        ValueError: a column has more or fewer entries, or other ones.
    """
    checked = dict(columns)
    for name in COLUMNS[1:]:
        if name in columns:
            _check_rows(path, columns, name)
            checked[name] = _keys(path, name, columns[name])
    for name in columns:
        if name.startswith(COLUMN_PREFIX):
            checked[name] = _as_texts(columns[name])
    names = columns.get('class_names')
    if names is not None and names.ndim != 1:
        raise ValueError(f'{path}: class_names must be a vector of names, got shape {names.shape}')
    model_hash = columns.get('model_hash')
    if model_hash is not None and model_hash.ndim:
        raise ValueError(f'{path}: model_hash must be one text, got shape {model_hash.shape}')
    return checked


def _as_texts(values: np.ndarray) -> np.ndarray:
    """Bytes of a further column as texts if that is what they are; others, such as hashes, as they are."""
    if values.dtype.kind != 'S' and not (values.dtype == object and all(isinstance(each, bytes) for each in values)):
        return values
    try:
        return np.array([each.decode() for each in values.tolist()], dtype=np.str_)
    except UnicodeDecodeError:
        return values


def role_numbers(path: str, roles: np.ndarray) -> np.ndarray:
    """Roles as numbers, from numbers or names."""
    if roles.dtype.kind in 'US':
        by_text = {**ROLE_NAMES, **{str(number): number for number in ROLE_NAMES.values()}}
        texts = [str(role).strip().lower() for role in roles.astype(np.str_).ravel()]
        unknown = sorted({text for text in texts if text not in by_text})
        if unknown:
            raise ValueError(f'{path}: roles must be of {(*by_text,)}, got {unknown[:5]}')
        return np.array([by_text[text] for text in texts], dtype=np.int64).reshape(roles.shape)
    if roles.dtype.kind not in 'iub':
        raise ValueError(f'{path}: roles must be of (0, 1, 2) (both, query, gallery), got {roles.dtype}')
    return roles.astype(np.int64)


def _check_rows(path: str, columns: Columns, name: str, prefix: str = '') -> None:
    """Check that a column has one entry for each embedding."""
    embeddings, values = columns[prefix + 'embeddings'], columns[prefix + name]
    if name == 'embeddings':
        if values.ndim != 2:
            raise ValueError(f'{path}: {prefix}embeddings must be of shape (N, D), got {values.shape}')
        return
    rows = len(embeddings)
    if values.ndim == 1 and len(values) != rows:
        raise ValueError(f'{path}: there are {rows} {prefix}embeddings, but {len(values)} {prefix}{name}')
    if values.ndim != 1:
        one_hot = name == 'labels' and values.ndim == 2 and values.shape[1] > 1
        hint = '; of one column a class take the argmax: labels.argmax(1)' if one_hot else ''
        raise ValueError(
            f'{path}: {prefix}{name} must be one for each embedding, of shape ({rows},), got {values.shape}{hint}'
        )


def _keys(path: str, name: str, values: np.ndarray) -> np.ndarray:
    """Return a column as int64 or strings."""
    values = plain_bytes(plain_strings(values))
    if values.dtype.kind == 'S':
        try:
            return np.char.decode(values, 'utf-8')
        except UnicodeDecodeError as error:
            raise ValueError(f'{path}: {name} are bytes, and not UTF-8 ({error})') from None
    if name == 'paths' and values.dtype.kind != 'U':
        raise ValueError(f'{path}: paths must be strings, got {values.dtype}')
    if values.dtype.kind not in 'iubU':
        raise ValueError(f'{path}: {name} must be integers or strings, got {values.dtype}')
    if values.dtype == np.uint64 and values.max(initial=0) > np.iinfo(np.int64).max:
        raise ValueError(f'{path}: {name} must fit int64, got {values.max()}')
    return values if values.dtype.kind == 'U' else values.astype(np.int64)
