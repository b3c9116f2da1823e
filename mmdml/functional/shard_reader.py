"""A folder of embeddings in shards, as ``mmdml embed`` writes it."""

from collections.abc import Mapping
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np

from mmdml.utils.names import printable
from mmdml.utils.shards import (
    SHARD_FACTS,
    is_whole,
    read_shard_facts,
    read_shard_table,
    require_shard_facts,
    shard_tables,
)

from .embedding_readers import Columns, read_npy


def read_shards(folder: str) -> Columns:
    """``embeddings``, ``paths`` and ``labels`` of a folder that ``mmdml embed`` wrote, without unreadable pictures.

    Raises:
        ValueError: if it holds no shards, not all of them, or a damaged one.
    """
    stems = _stems(Path(folder))
    rows, paths, labels = [], [], []
    for stem in stems:
        table = stem.with_suffix('.jsonl')
        facts = [fact for fact in read_shard_table(table) if 'row' in fact]
        if not all(_is_fact(fact) for fact in facts):
            raise ValueError(
                f'{printable(table)} cannot be read, it is damaged (a row is no number, or a path or label no text)'
            )
        numbers = {fact['row']: (fact['path'], fact['label']) for fact in facts}
        rows.append(read_npy(str(stem.with_suffix('.npy')), 'embeddings')['embeddings'])
        if rows[-1].ndim != 2:
            raise ValueError(f'{printable(stem)}.npy must hold embeddings (N, D), got shape {rows[-1].shape}')
        if sorted(numbers) != [*range(len(rows[-1]))]:
            raise ValueError(
                f'{printable(table)} names {len(numbers)} pictures, its .npy file has {len(rows[-1])} rows'
            )
        paths += [numbers[row][0] for row in range(len(rows[-1]))]
        labels += [numbers[row][1] for row in range(len(rows[-1]))]
    if len({each.shape[1:] for each in rows}) > 1:
        raise ValueError(f'{folder} holds embeddings of several shapes, {sorted({each.shape[1:] for each in rows})}')
    columns = dict(paths=np.array(paths, np.str_), labels=np.array(labels, np.str_))
    return dict(embeddings=np.concatenate(rows), **columns)


def _is_fact(fact: Mapping[str, Any]) -> bool:
    return type(fact['row']) is int and all(isinstance(fact.get(name), str) for name in ('path', 'label'))


def files_of(path: str) -> list[Path]:
    """Return the files that embeddings are read from: those of the shards of a folder, or the file itself."""
    folder = Path(path)
    return [each for kind in ('*.npy', '*.jsonl', SHARD_FACTS) for each in folder.glob(kind)] or [folder]


def _stems(folder: Path) -> list[Path]:
    """Return the shards in their order, without endings; all that there should be."""
    require_shard_facts(folder)
    if not (folder / SHARD_FACTS).exists():
        raise ValueError(f'{printable(folder)} holds no shards NNNNN.jsonl and NNNNN.npy, as mmdml embed writes them')
    sizes = read_shard_facts(folder / SHARD_FACTS)
    number = -(-sizes['pictures'] // sizes['shard_size'])
    stems = (folder / f'{shard:05d}' for shard in range(number))
    # One by one up to the first that is missing: a damaged number may be of any size.
    found = list(takewhile(is_whole, stems))
    if len(found) < number:
        there = sum(int(table.stem) < number and is_whole(table.with_suffix('')) for table in shard_tables(folder))
        raise ValueError(
            f'{printable(folder)}: {number - there} of {number} shards are missing, the first is {len(found):05d}; run '
            'mmdml embed again'
        )
    return found
