"""A folder of pictures into a store, and again after the folder has changed."""

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mmdml.apis.embedding_inferencer import ImageEmbeddingInferencer, UnreadableImage
from mmdml.apis.image_inputs import scan_folder
from mmdml.index import Item, Row, VectorStore
from mmdml.index.vector_store import COLUMNS
from mmdml.utils.image_files import require_regular
from mmdml.utils.names import printable
from mmdml.utils.progress import ProgressLine

#: Relative path -> label and metadata.
Describe = Callable[[str], tuple[str, Mapping[str, str]]]

_BLOCK = 1 << 20
_ROWS = 1000


@dataclass
class GalleryUpdate:
    """What an update did, in numbers of pictures.

    Attributes:
        added: that the store did not have.
        changed: that were embedded again.
        unchanged: whose content the store had.
        relabeled: of the unchanged, that got another label or other metadata.
        removed: that are no longer in the folder.
        unlisted: that the list of labels does not name; they have no label.
        absent: paths in the list of labels that are no picture of the folder.
        left_out: paths of the files in the folder that are no pictures by the endings of their names.
        unreadable: without an embedding; a row of an earlier content is deleted.
    """

    added: int = 0
    changed: int = 0
    unchanged: int = 0
    relabeled: int = 0
    removed: int = 0
    unlisted: int = 0
    absent: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    unreadable: list[UnreadableImage] = field(default_factory=list)


def class_folder(path: str) -> tuple[str, dict[str, str]]:
    """Return the first folder of a relative path as its label, empty for a picture that lies in none."""
    first, _, rest = path.partition(os.sep)
    return (first if rest else ''), {}


def unlabeled(path: str) -> tuple[str, dict[str, str]]:
    """Return no label."""
    return '', {}


class PictureList(dict[str, tuple[str, Mapping[str, str]]]):
    """Label and metadata by relative path; called as :data:`Describe`."""

    __call__ = dict.get


def listed(path: str | Path, folder: str | Path) -> PictureList:
    """Read labels and metadata of pictures from a list, in the form that :class:`~mmdml.datasets.ImageList` reads.

    Args:
        path: of the list. Columns of a table beside path, label and role become metadata.
        folder: that the paths in the list are relative to.

    Raises:
        FileNotFoundError: there is no such list.
        ValueError: a line that cannot be read, a file with two labels, a list of which nothing is in the folder, or a
            column of a name that rows of a store have for something else.
    """
    from mmdml.datasets import ImageList

    root = os.path.abspath(folder)
    found = ImageList(os.path.abspath(path), data_root=root, lazy_init=True).load_samples()
    names = [os.path.relpath(os.path.join(root, each), root) for each in found.paths]
    if not any(os.path.lexists(os.path.join(root, name)) for name in names):
        example = f', e.g. {printable(names[0])}' if names else ''
        raise ValueError(
            f'none of the {len(names)} pictures in {printable(path)} is there{example}; write paths relative to '
            f'{printable(root)}'
        )
    taken = [name for name in found.columns if name in COLUMNS]
    if taken:
        raise ValueError(
            f'{printable(path)} has a column {taken[0]!r}, which rows of a store have for something else; call it '
            'otherwise'
        )
    columns = [[(name, str(value)) for value in values] for name, values in found.columns.items()]
    metadata = [dict(row) for row in zip(*columns, strict=True)] if columns else [{}] * len(names)
    labels = [str(found.classes[label]) for label in found.labels]
    return PictureList(zip(names, zip(labels, metadata, strict=True), strict=True))


def update_gallery(
    store: VectorStore,
    embed: ImageEmbeddingInferencer,
    folder: str | Path,
    describe: Describe = class_folder,
    remove: bool = False,
) -> GalleryUpdate:
    """Bring the pictures of a folder into a store.

    Only new pictures, and those whose content differs from what was embedded, are embedded; new labels and metadata
    are taken over. Rows are added batch by batch: after a kill the next call goes on where the last batch ended. Paths
    are kept absolute.

    Args:
        store: opened to write.
        embed: with the model that the store is for.
        folder: with the pictures in it and below it.
        describe: label and metadata of a path relative to ``folder``; None stands for none. Default: the first folder
            of the path is the label; :func:`listed` takes both from a file.
        remove: delete rows of pictures that were in this folder and are not there any more.

    Raises:
        ValueError: the store is another model's.
        FileNotFoundError: there is no such folder, or no picture in it.
        OSError: the disk is full; the store is as after the last batch.
    """
    require_same_model(store, embed)
    root = os.path.abspath(folder)
    scan = scan_folder(root)
    paths = [os.path.join(root, each) for each in scan.images]
    known = {row.item.path: row for row in store.rows()}
    update, items, relabeled = GalleryUpdate(left_out=scan.others), {}, []
    if isinstance(describe, PictureList):
        there = {os.path.relpath(path, root) for path in paths}
        update.absent = [name for name in describe if name not in there]
        update.unlisted = len(there - describe.keys())
    for path, facts in _with_facts(paths, embed):
        row = known.get(path)
        if isinstance(facts, UnreadableImage):
            update.unreadable.append(facts)
            continue
        label, metadata = describe(os.path.relpath(path, root)) or unlabeled(path)
        item = Item(path, label, *facts, metadata)
        if row is None or (row.item.size, row.item.content_hash) != facts:
            items[path] = item
            continue
        update.unchanged += 1
        if row.item != item:
            relabeled.append((row.id, item))
    _relabel(store, relabeled)
    update.relabeled = len(relabeled)
    for part in embed.stream(list(items)) if items else ():
        if part.names:
            store.add(part.embeddings, [items[name] for name in part.names])
        again = sum(name in known for name in part.names)
        update.changed += again
        update.added += len(part.names) - again
        update.unreadable += part.unreadable
    # Their embeddings are of another content than the file now has.
    store.delete([known[each.name].id for each in update.unreadable if each.name in known])
    if remove:
        update.removed = store.delete(_gone(known, root, set(paths)))
    return update


def _relabel(store: VectorStore, rows: list[tuple[int, Item]]) -> None:
    """Replace rows by others with the same vectors."""
    parts = [rows[start : start + _ROWS] for start in range(0, len(rows), _ROWS)]
    vectors = [store.vectors([id for id, _ in part]) for part in parts]
    for part, found in zip(parts, vectors, strict=True):
        store.add(np.array(found), [item for _, item in part])


def require_same_model(store: VectorStore, embed: ImageEmbeddingInferencer) -> None:
    """Check that a store is for the model of an inferencer.

    Raises:
        ValueError: otherwise.
    """
    if (store.model_hash, store.dimensions) != (embed.model_hash, embed.dimensions):
        raise ValueError(
            f'the store holds vectors of another model or pre-processing ({store.model_hash[:12]}, not '
            f'{embed.model_hash[:12]}); use that model, or make a store anew'
        )


def _with_facts(
    paths: list[str], embed: ImageEmbeddingInferencer
) -> Iterator[tuple[str, tuple[int, str] | UnreadableImage]]:
    """Yield each path with the size and hash of its content, read in threads."""
    with ThreadPoolExecutor(embed.workers) as pool:
        if not embed.progress:
            yield from zip(paths, pool.map(file_facts, paths), strict=True)
            return
        with ProgressLine('files compared', len(paths)) as line:
            for path, facts in zip(paths, pool.map(file_facts, paths), strict=True):
                line.add(1)
                yield path, facts


def file_facts(path: str) -> tuple[int, str] | UnreadableImage:
    """Return the size of a file in bytes and the hash of its content."""
    digest, size = hashlib.blake2b(digest_size=16), 0
    try:
        require_regular(path)
        with open(path, 'rb') as file:
            while block := file.read(_BLOCK):
                digest.update(block)
                size += len(block)
    except (OSError, ValueError) as error:
        return UnreadableImage(path, printable(f'{type(error).__name__}: {error}'))
    return size, digest.hexdigest()


def _gone(known: dict[str, Row], root: str, there: set[str]) -> list[int]:
    inside = os.path.join(root, '')
    return [row.id for path, row in known.items() if path.startswith(inside) and path not in there]
