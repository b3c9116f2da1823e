"""What ``mmdml embed`` writes beside the numbers of a shard; without torch, which exported models do not need."""

import json
from pathlib import Path
from typing import Any

from mmdml.utils.names import printable

#: What all shards share: the model, and the pictures that they are of.
SHARD_FACTS = 'embeddings.json'
_KINDS = ('.npy', '.jsonl')


def read_shard_facts(path: Path) -> dict[str, Any]:
    """Return what all shards of a folder share.

    Args:
        path: of ``embeddings.json``.

    Raises:
        ValueError: if it is damaged.
    """
    try:
        facts = json.loads(path.read_text(encoding='utf-8'))
        sizes = [facts['pictures'], facts['shard_size']]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f'{printable(path)} cannot be read, it is damaged ({error})') from error
    if not all(type(size) is int and size > 0 for size in sizes):
        raise ValueError(f'{printable(path)} cannot be read, it is damaged (pictures and shard_size are {sizes})')
    return facts


def pictures_folder(path: str) -> str:
    """Return the folder that the paths of a file of embeddings start from; '' where it is not known.

    Args:
        path: of a folder of shards, which says so unless it is of an early version, or of a file, which does not.

    Raises:
        ValueError: ``embeddings.json`` is damaged.
    """
    facts = Path(path) / SHARD_FACTS
    return str(read_shard_facts(facts).get('folder', '')) if facts.is_file() else ''


def shard_tables(folder: Path) -> list[Path]:
    """Return the tables ``NNNNN.jsonl`` of a folder, sorted."""
    return sorted(table for table in folder.glob('*.jsonl') if len(table.stem) >= 5 and table.stem.isdecimal())


def require_shard_facts(folder: Path) -> None:
    """Check that shards are not without the file that says how many they are and what they are of.

    Raises:
        ValueError: there are shards, and no ``embeddings.json``.
    """
    # In this order: what writes shards writes that file before the first of them.
    shards = shard_tables(folder)
    if shards and not (folder / SHARD_FACTS).exists():
        raise ValueError(
            f'{printable(folder)} lacks {SHARD_FACTS}, which says how many shards there are and which model they are '
            f'of: copy it from where {shards[0].name} comes from, or run mmdml embed into an empty folder'
        )


def read_shard_table(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a ``NNNNN.jsonl``, one a picture.

    Raises:
        ValueError: if it is damaged.
    """
    try:
        lines = [json.loads(line) for line in path.read_text(encoding='ascii').splitlines()]
    except ValueError as error:
        raise ValueError(f'{printable(path)} cannot be read, it is damaged ({error})') from error
    if not all(isinstance(line, dict) for line in lines):
        raise ValueError(f'{printable(path)} cannot be read, it is damaged (a line is no object)')
    return lines


def is_whole(stem: Path) -> bool:
    """Whether both files of a shard are there; of a shard that is being written one is missing."""
    return all(stem.with_suffix(kind).exists() for kind in _KINDS)
