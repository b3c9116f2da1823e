"""A folder of pictures into a store, and again after the folder has changed."""

import hashlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from mmdml.apis.embedding_inferencer import ImageEmbeddingInferencer, UnreadableImage
from mmdml.apis.image_inputs import image_inputs
from mmdml.index import Item, Row, VectorStore
from mmdml.utils.image_files import require_regular
from mmdml.utils.names import printable
from mmdml.utils.progress import ProgressLine

_BLOCK = 1 << 20


@dataclass
class GalleryUpdate:
    """What an update did, in numbers of pictures.

    Attributes:
        added: that the store did not have.
        changed: that were embedded again.
        unchanged: whose content the store had.
        removed: that are no longer in the folder.
        unreadable: without an embedding; a row of an earlier content is deleted.
    """

    added: int = 0
    changed: int = 0
    unchanged: int = 0
    removed: int = 0
    unreadable: list[UnreadableImage] = field(default_factory=list)


def class_folder(path: str) -> str:
    """Return the first folder of a relative path, empty for a picture that lies in none."""
    first, _, rest = path.partition(os.sep)
    return first if rest else ''


def update_gallery(
    store: VectorStore,
    embed: ImageEmbeddingInferencer,
    folder: str | Path,
    label: Callable[[str], str] = class_folder,
    remove: bool = False,
) -> GalleryUpdate:
    """Bring the pictures of a folder into a store.

    Only new pictures, and those whose content differs from what was embedded, are embedded. Rows are added batch by
    batch: after a kill the next call goes on where the last batch ended. Paths are kept absolute.

    Args:
        store: opened to write.
        embed: with the model that the store is for.
        folder: with the pictures in it and below it.
        label: class name of a path relative to ``folder``. Default: the first folder of the path.
        remove: delete rows of pictures that were in this folder and are not there any more.

    Raises:
        ValueError: the store is another model's.
        FileNotFoundError: there is no such folder, or no picture in it.
        OSError: the disk is full; the store is as after the last batch.
    """
    require_same_model(store, embed)
    root = os.path.abspath(folder)
    if not os.path.isdir(root):
        raise FileNotFoundError(f'there is no folder {printable(root)}')
    known = {row.item.path: row for row in store.rows()}
    paths = [image.name for image in image_inputs(root)]
    update, items = GalleryUpdate(), {}
    for path, facts in _with_facts(paths, embed):
        row = known.get(path)
        if isinstance(facts, UnreadableImage):
            update.unreadable.append(facts)
        elif row is not None and (row.item.size, row.item.content_hash) == facts:
            update.unchanged += 1
        else:
            items[path] = Item(path, label(os.path.relpath(path, root)), *facts)
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
            yield from zip(paths, pool.map(_facts, paths), strict=True)
            return
        with ProgressLine('files compared', len(paths)) as line:
            for path, facts in zip(paths, pool.map(_facts, paths), strict=True):
                line.add(1)
                yield path, facts


def _facts(path: str) -> tuple[int, str] | UnreadableImage:
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
