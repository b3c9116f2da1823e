"""Saved embeddings of any origin: reading them with what is known of their images, and writing them."""

import os.path as osp
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from torch import Tensor

from mmdml.structures.row_facts import RowFacts, check_one_label_per_image, image_ids
from mmdml.utils.arrays import rows_beyond_fp64
from mmdml.utils.files import write_atomically
from mmdml.utils.tables import whole_number

from .embedding_columns import checked_columns, join_sides, role_numbers
from .embedding_readers import (
    COLUMN_PREFIX,
    COLUMNS,
    EMBEDDING_READERS,
    LABEL_READERS,
    Columns,
    read_file,
)
from .shard_reader import read_shards


class SavedEmbeddings(NamedTuple):
    """What a file of embeddings holds.

    Attributes:
        embeddings: ``(N, D)``.
        facts: of the N images.
        model_hash: of the model's weights (:func:`~mmdml.utils.weights_hash.weights_hash`); '' if unknown.
        class_names: all names that labels may have, in the order of the dataset; none if unknown.
        has_ids: whether ids are the file's own, and do not follow from paths or row numbers.
    """

    embeddings: np.ndarray
    facts: RowFacts
    model_hash: str = ''
    class_names: tuple[str, ...] = ()
    has_ids: bool = False


def read_columns(path: str, labels: str | None = None) -> Columns:
    """Embeddings, and what else is known of them.

    ==========  ========================================================================================
    file        holds
    ==========  ========================================================================================
    .npz        arrays ``embeddings (N, D)``, ``labels (N,)``, and optionally ``roles``, ``ids``, ``groups``, ``parts``,
                ``paths``, and further columns by names such as ``column_camera``; or all of them twice, as
                ``query_embeddings``, ``gallery_embeddings``, ...; ``class_names`` and ``model_hash``. Others are not
                looked at
    .npy        embeddings ``(N, D)`` alone
    .parquet    columns of the same names but ``class_names`` and ``model_hash``, which are no columns; embeddings as
                lists of numbers or tensors of one axis (needs pyarrow)
    a folder    shards of ``mmdml embed``: embeddings, paths and labels, the first folders of the paths
    ==========  ========================================================================================

    Names in the singular are as good (``label``). Roles are 0 (both), 1 (query) or 2 (gallery), or these names.
    Nothing is unpickled.

    Args:
        path: of the embeddings.
        labels: file of the labels, where the other one has none, or in place of those of a folder: ``.npy``, ``.txt``
            with one a line, or ``.csv`` or ``.tsv`` with a header that names ``labels`` and optionally the other
            columns, further ones in lower case.

    Returns:
        Arrays by name, in the plural; both sides one after the other with their roles, if there are two.

    Raises:
        FileNotFoundError: if a file is not there.
        ValueError: if a file is of another kind, does not hold what it should, or not one of it for each embedding.
        ImportError: if a .parquet file is to be read without pyarrow.
    """
    columns = read_shards(path) if osp.isdir(path) else join_sides(path, read_file(path, EMBEDDING_READERS))
    embeddings = columns['embeddings']
    if embeddings.ndim != 2 or embeddings.dtype.kind not in 'fiu':
        raise ValueError(
            f'{path}: embeddings must be numbers of shape (N, D), got {embeddings.dtype} of shape {embeddings.shape}'
        )
    if 0 in embeddings.shape:
        what = 'no embeddings' if len(embeddings) == 0 else f'{len(embeddings)} embeddings without dimensions'
        raise ValueError(f'{path} holds {what}: there is nothing to search')
    lost = rows_beyond_fp64(embeddings)
    if len(lost):
        raise ValueError(
            f'{path}: {len(lost)} of {len(embeddings)} embeddings have whole numbers beyond 2**53, which fp64 does not '
            f'tell apart, the first is row {lost[0]}: scale them, or save them as float64'
        )
    if 'roles' in columns:
        columns['roles'] = role_numbers(path, columns['roles'])
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
            more['roles'] = role_numbers(labels, more['roles'])
        columns |= more
    return checked_columns(path, columns)


def read_embeddings(path: str, labels: str | None = None, option: str = '--labels') -> SavedEmbeddings:
    """Embeddings with labels and what else is known of their images, see :func:`read_columns`.

    Args:
        path: see :func:`read_columns`.
        labels: see :func:`read_columns`.
        option: that names the file of labels, for messages.

    Raises:
        FileNotFoundError, ValueError, ImportError: as :func:`read_columns`.
        ValueError: if there are no labels, an image has none (its label is blank), an embedding is not finite, or facts
            contradict each other.
    """
    columns = read_columns(path, labels)
    embeddings, rows = columns['embeddings'], len(columns['embeddings'])
    if 'labels' not in columns:
        raise ValueError(f'{path} has no labels, only {sorted(columns)}: name a file of them with {option}')
    named = columns['labels'].dtype.kind == 'U'
    unlabeled = np.flatnonzero(np.char.strip(columns['labels']) == '') if named else ()
    if len(unlabeled):
        raise ValueError(
            f'{path}: {len(unlabeled)} of {rows} images have no label, the first is row {unlabeled[0]}: name a file of '
            f'labels with {option}'
        )
    bad = np.flatnonzero(~np.isfinite(embeddings).all(1))
    if len(bad):
        raise ValueError(f'{path}: {len(bad)} of {rows} embeddings are not finite, the first is row {bad[0]}')
    known = {name: columns[name] for name in COLUMNS if name in columns and name != 'embeddings'}
    more = {name.removeprefix(COLUMN_PREFIX): columns[name] for name in columns if name.startswith(COLUMN_PREFIX)}
    try:
        facts = RowFacts.of(**known, more=more)
        check_one_label_per_image(facts.labels, facts.ids, facts.paths)
    except ValueError as error:
        raise ValueError(f'{path}: {error}') from None
    class_names = tuple(map(str, columns.get('class_names', ())))
    return SavedEmbeddings(embeddings, facts, str(columns.get('model_hash', '')), class_names, 'ids' in columns)


def write_embeddings(
    path: str,
    embeddings: Tensor | np.ndarray,
    facts: RowFacts,
    model_hash: str = '',
    columns: Mapping[str, np.ndarray] | None = None,
) -> None:
    """Write embeddings and what is known of them to an .npz file that :func:`read_embeddings` reads.

    ``labels`` are the user's own: the names of the classes, as numbers if all are whole numbers. Images without a label
    (-1 where there are ``class_names``) have '' among names; if no image has one, there are no ``labels``.
    ``class_names`` are the names in the order of the dataset. The file is there whole or not at all.

    Args:
        path: of the file, ending with .npz.
        embeddings: ``(N, D)``.
        facts: of the N images.
        model_hash: of the model's weights; '' is left out.
        columns: more facts, ``(N,)`` each by name; they are written as ``column_<name>``. Those that ``facts`` has as
            well are there once.
    """
    known = facts.columns()
    more = {
        f'{COLUMN_PREFIX}{name}': values
        for name, values in (columns or {}).items()
        if not np.array_equal(known.get(name), values)
    }
    columns = known | dict(labels=own_labels(facts))
    if facts.class_names is not None and facts.labels.dtype.kind in 'iu' and (facts.labels < 0).all():
        del columns['labels']
    if _ids_follow(facts):
        del columns['ids']
    if facts.class_names:
        columns['class_names'] = np.array(facts.class_names, dtype=np.str_)
    if model_hash:
        columns['model_hash'] = np.array(model_hash)
    with write_atomically(path) as file:
        np.savez(file, embeddings=np.asarray(embeddings), **columns, **more)


def _ids_follow(facts: RowFacts) -> bool:
    """Whether ids are those that paths give, or row numbers where there are no paths."""
    rows = np.arange(len(facts))
    expected = [rows, -1 - rows] if facts.paths is None else [image_ids(facts.paths)]
    return any(np.array_equal(facts.ids, ids) for ids in expected)


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
