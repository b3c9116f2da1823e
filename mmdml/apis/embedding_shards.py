"""Embeddings of a folder in files of equal size, made by one process or several, in one go or many."""

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from mmdml.apis.embedding_inferencer import ImageEmbeddingInferencer, UnreadableImage
from mmdml.apis.gallery_update import class_folder, file_facts
from mmdml.apis.image_inputs import scan_folder
from mmdml.utils.files import write_atomically
from mmdml.utils.names import printable
from mmdml.utils.shards import SHARD_FACTS, is_whole, read_shard_facts, read_shard_table, require_shard_facts


@dataclass(frozen=True)
class ShardsWritten:
    """What a call did.

    Attributes:
        written: shards.
        skipped: shards that were there.
        pictures: that were embedded.
        unreadable: pictures that could not be read.
        left_out: paths of the files in the folder that are no pictures by the endings of their names.
    """

    written: int
    skipped: int
    pictures: int
    unreadable: int
    left_out: list[str] = field(default_factory=list)


def write_shards(
    embed: ImageEmbeddingInferencer,
    folder: str | Path,
    out: str | Path,
    shard_size: int = 4096,
    rank: int = 0,
    ranks: int = 1,
) -> ShardsWritten:
    """Embed the pictures of a folder into shards; shards that are there are skipped.

    Shard i covers the pictures ``i * shard_size`` to ``(i + 1) * shard_size`` in the order of paths. It consists of
    ``00000.npy``, ``(N, D)`` float32 rows of length 1, and ``00000.jsonl``, a line for each picture of the shard:
    ``{"path": ..., "label": ..., "row": 0, "content": ...}``, or ``{"path": ..., "error": ..., "content": ...}`` for
    one that could not be read. Paths are relative to ``folder``, labels the first folders of them, empty for pictures
    that are in none; contents are hashes of the files, by which pictures that have changed since are noticed. The table
    is written last; a shard that lacks one of its files is made anew. ``embeddings.json`` holds what all shards share,
    and where the pictures were.

    Args:
        embed: what embeds.
        folder: with the pictures in it and below it.
        out: folder of the shards, made if need be.
        shard_size: pictures in a shard.
        rank: of this process; it writes the shards ``rank, rank + ranks, ...``.
        ranks: processes that write.

    Raises:
        ValueError: ``out`` holds shards of another model, of other pictures or of another size, damaged ones, or
            some without ``embeddings.json``; a number out of range.
        FileNotFoundError: there is no such folder, or no picture in it.
        OSError: the disk is full, for instance; whole shards stay.
    """
    if shard_size < 1 or not 0 <= rank < ranks:
        raise ValueError(f'shard_size={shard_size} must be 1 or more, and rank={rank} in 0..{ranks - 1}')
    root, out = os.path.abspath(folder), Path(out)
    scan = scan_folder(root)
    paths = scan.images
    out.mkdir(parents=True, exist_ok=True)
    _check_facts(out / SHARD_FACTS, _facts(embed, paths, shard_size), root)
    starts = {shard: shard * shard_size for shard in range(rank, -(-len(paths) // shard_size), ranks)}
    missing = [shard for shard in starts if not is_whole(out / f'{shard:05d}')]
    with ThreadPoolExecutor(embed.workers) as pool:

        def contents(images: Sequence[str]) -> dict[str, str]:
            facts = pool.map(file_facts, (os.path.join(root, image) for image in images))
            return {
                image: '' if isinstance(each, UnreadableImage) else each[1]
                for image, each in zip(images, facts, strict=True)
            }

        for shard in starts.keys() - missing:
            _require_unchanged(out / f'{shard:05d}.jsonl', contents)
        pictures = unreadable = 0
        for shard in missing:
            images = paths[starts[shard] : starts[shard] + shard_size]
            content = contents(images)
            found = embed([os.path.join(root, path) for path in images])
            names = [os.path.relpath(name, root) for name in found.names]
            table = [dict(path=name, label=class_folder(name)[0], row=row) for row, name in enumerate(names)]
            table += [dict(path=os.path.relpath(each.name, root), error=each.reason) for each in found.unreadable]
            table = [line | dict(content=content[line['path']]) for line in table]
            _write(out / f'{shard:05d}', found.embeddings, table)
            pictures, unreadable = pictures + len(names), unreadable + len(found.unreadable)
    return ShardsWritten(len(missing), len(starts) - len(missing), pictures, unreadable, scan.others)


def _facts(embed: ImageEmbeddingInferencer, paths: Sequence[str], shard_size: int) -> dict[str, Any]:
    listed = hashlib.sha256(b'\0'.join(map(os.fsencode, paths))).hexdigest()
    return dict(
        model_hash=embed.model_hash,
        dimensions=embed.dimensions,
        pictures=len(paths),
        pictures_hash=listed,
        shard_size=shard_size,
    )


def _check_facts(path: Path, facts: dict[str, Any], root: str) -> None:
    """Write the facts and where the pictures are, or compare those that are there; the pictures may have moved."""
    require_shard_facts(path.parent)
    if not path.exists():
        # Several ranks write the same.
        with write_atomically(path, 'w', encoding='utf-8') as file:
            json.dump(facts | dict(folder=root), file, indent=2)
        return
    before = read_shard_facts(path)
    other = [name for name, value in facts.items() if before.get(name) != value]
    if other:
        raise ValueError(
            f'{printable(path.parent)} holds shards that were made with another {other[0]} ({before.get(other[0])}, '
            f'not {facts[other[0]]}); choose another folder, or empty that one'
        )


def _require_unchanged(table: Path, contents: Callable[[Sequence[str]], dict[str, str]]) -> None:
    """Check that the pictures of a shard are those that it was made of, where it says so: early versions did not."""
    then = {line['path']: line['content'] for line in read_shard_table(table) if 'content' in line}
    now = contents(list(then))
    changed = [path for path in then if now[path] != then[path]]
    if changed:
        raise ValueError(
            f'{len(changed)} of the {len(then)} pictures of {printable(table)} are others than when it was made, such '
            f'as {printable(changed[0])}; choose another folder, or remove that file to make the embeddings anew'
        )


def _write(stem: Path, embeddings: np.ndarray, table: list[dict[str, Any]]) -> None:
    with write_atomically(stem.with_suffix('.npy')) as file:
        # Through `write`: for a real file NumPy's error of a full disk does not say that it is full.
        np.save(SimpleNamespace(write=file.write), embeddings, allow_pickle=False)
    # ASCII: JSON can then hold names that are no UTF-8.
    with write_atomically(stem.with_suffix('.jsonl'), 'w', encoding='ascii') as file:
        file.writelines(json.dumps(row) + '\n' for row in table)
