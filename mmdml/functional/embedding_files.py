"""Saved embeddings of any origin: reading them with what is known of their images, and writing them."""

import os.path as osp
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from torch import Tensor

from mmdml.structures.row_facts import GALLERY, QUERY, ROLE_NAMES, RowFacts
from mmdml.utils.files import write_atomically
from mmdml.utils.tables import whole_number

from .embedding_readers import (
    COLUMN_PREFIX,
    COLUMNS,
    EMBEDDING_READERS,
    EXTRAS,
    LABEL_READERS,
    SIDES,
    Columns,
    read_file,
    read_shards,
)


class SavedEmbeddings(NamedTuple):
    """What a file of embeddings holds.

    Attributes:
        embeddings: ``(N, D)``.
        facts: of the N images.
        model_hash: of the model's weights (:func:`~mmdml.utils.weights_hash.weights_hash`); '' if unknown.
    """

    embeddings: np.ndarray
    facts: RowFacts
    model_hash: str = ''


def read_columns(path: str, labels: str | None = None) -> Columns:
    """Embeddings, and what else is known of them.

    ==========  ========================================================================================
    file        holds
    ==========  ========================================================================================
    .npz        arrays ``embeddings (N, D)``, ``labels (N,)``, and optionally ``roles``, ``ids``, ``groups``, ``parts``,
                ``paths``; or all of them twice, as ``query_embeddings``, ``gallery_embeddings``, ...; ``class_names``
                and ``model_hash``; further columns by names such as ``column_camera``. Others are not looked at
    .npy        embeddings ``(N, D)`` alone
    .parquet    columns of the same names, embeddings as lists of numbers or tensors of one axis (needs pyarrow)
    a folder    shards of ``mmdml embed``: embeddings, paths and labels, the first folders of the paths
    ==========  ========================================================================================

    Names in the singular are as good (``label``). Roles are 0 (both), 1 (query) or 2 (gallery), or these names.
    Nothing is unpickled.

    Args:
        path: of the embeddings.
        labels: file of the labels, where the other one has none, or in place of those of a folder: ``.npy``, ``.txt``
            with one a line, or ``.csv`` or ``.tsv`` with a header that names ``labels`` and optionally the other
            columns.

    Returns:
        Arrays by name, in the plural; both sides one after the other with their roles, if there are two.

    Raises:
        FileNotFoundError: if a file is not there.
        ValueError: if a file is of another kind, or does not hold what it should.
        ImportError: if a .parquet file is to be read without pyarrow.
    """
    columns = read_shards(path) if osp.isdir(path) else _join_sides(path, read_file(path, EMBEDDING_READERS))
    embeddings = columns['embeddings']
    if embeddings.ndim != 2 or embeddings.dtype.kind not in 'fiu':
        raise ValueError(
            f'{path}: embeddings must be numbers of shape (N, D), got {embeddings.dtype} of shape {embeddings.shape}'
        )
    if 0 in embeddings.shape:
        what = 'no embeddings' if len(embeddings) == 0 else f'{len(embeddings)} embeddings without dimensions'
        raise ValueError(f'{path} holds {what}: there is nothing to search')
    if 'roles' in columns:
        columns['roles'] = _roles(path, columns['roles'])
    if labels is not None:
        more = read_file(labels, LABEL_READERS)
        if osp.isdir(path):
            del columns['labels']
        both = sorted(set(columns) & set(more))
        if both:
            raise ValueError(f'{both} are in {path} as well as in {labels}: which are to be used?')
        if more['labels'].ndim == 1 and len(more['labels']) != len(embeddings):
            found = len(more['labels'])
            header = labels.lower().endswith('.txt') and found == len(embeddings) + 1
            hint = f'; the first line is {more["labels"][0]!s}: tables with a header end with .csv' if header else ''
            raise ValueError(f'{path} has {len(embeddings)} embeddings, but {labels} has {found} labels{hint}')
        if 'roles' in more:
            more['roles'] = _roles(labels, more['roles'])
        return columns | more
    return columns


def read_embeddings(path: str, labels: str | None = None) -> SavedEmbeddings:
    """Embeddings with labels and what else is known of their images, see :func:`read_columns`.

    Raises:
        FileNotFoundError, ValueError, ImportError: as :func:`read_columns`.
        ValueError: if there are no labels, not one per embedding, or they contradict each other.
    """
    columns = read_columns(path, labels)
    if 'labels' not in columns:
        raise ValueError(f'{path} has no labels, only {sorted(columns)}: name a file of them with --labels')
    rows = len(columns['embeddings'])
    if len(columns['labels']) != rows:
        raise ValueError(f'{path}: there are {rows} embeddings, but {len(columns["labels"])} labels')
    unlabeled = int((columns['labels'] == '').sum()) if columns['labels'].dtype.kind == 'U' else 0
    if unlabeled:
        raise ValueError(f'{path}: {unlabeled} of {rows} images have no label and cannot be scored')
    known = {name: columns[name] for name in COLUMNS if name in columns and name != 'embeddings'}
    more = {name.removeprefix(COLUMN_PREFIX): columns[name] for name in columns if name.startswith(COLUMN_PREFIX)}
    try:
        facts = RowFacts.of(**known, more=more)
    except ValueError as error:
        raise ValueError(f'{path}: {error}') from None
    return SavedEmbeddings(columns['embeddings'], facts, str(columns.get('model_hash', '')))


def write_embeddings(
    path: str,
    embeddings: Tensor | np.ndarray,
    facts: RowFacts,
    model_hash: str = '',
    columns: Mapping[str, np.ndarray] | None = None,
) -> None:
    """Write embeddings and what is known of them to an .npz file that :func:`read_embeddings` reads.

    ``labels`` are the user's own: the names of the classes, as numbers if all are whole numbers. Images without a label
    (-1) have '' among names; if no image has one, there are no ``labels``. ``class_names`` are the names in the order
    of the dataset. The file is there whole or not at all.

    Args:
        path: of the file, ending with .npz.
        embeddings: ``(N, D)``.
        facts: of the N images.
        model_hash: of the model's weights; '' is left out.
        columns: more facts, ``(N,)`` each by name; they are written as ``column_<name>``.
    """
    more = {f'{COLUMN_PREFIX}{name}': values for name, values in (columns or {}).items()}
    columns = facts.columns() | dict(labels=own_labels(facts))
    if facts.labels.dtype.kind in 'iu' and (facts.labels < 0).all():
        del columns['labels']
    if facts.paths is not None:
        # They follow from the paths.
        del columns['ids']
    if facts.class_names is not None:
        columns['class_names'] = np.array(facts.class_names, dtype=np.str_)
    if model_hash:
        columns['model_hash'] = np.array(model_hash)
    with write_atomically(path) as file:
        np.savez(file, embeddings=np.asarray(embeddings), **columns, **more)


def own_labels(facts: RowFacts) -> np.ndarray:
    """``(N,)`` labels as their dataset has them: class names, or their numbers if all are plain whole numbers."""
    if facts.class_names is None or facts.labels.dtype.kind not in 'iu':
        return facts.labels
    names = [*facts.class_names]
    numbers = [whole_number(name) for name in names]
    pairs = zip(numbers, names, strict=True)
    plain = all(number is not None and str(number) == name and abs(number) < 2**62 for number, name in pairs)
    if plain and (facts.labels >= 0).all():
        return np.array(numbers, dtype=np.int64)[facts.labels]
    # The last one is what -1 stands for.
    return np.array([*names, ''], dtype=np.str_)[facts.labels]


def _join_sides(path: str, columns: Columns) -> Columns:
    """Query and gallery one after the other, with their roles."""
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
    sizes = [len(columns[prefix + 'embeddings']) for prefix in SIDES]
    return joined | extras | {'roles': np.repeat([QUERY, GALLERY], sizes)}


def _roles(path: str, roles: np.ndarray) -> np.ndarray:
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
