"""A search structure in one file beside the vectors: a cache that can be made anew."""

import json
import struct
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

import numpy as np

from mmdml.index.structures import STRUCTURES, Structure
from mmdml.utils.files import replaced_when_whole
from mmdml.utils.names import printable

_MAGIC = b'mmdmlidx'
# Magic, version, length of the facts, checksum of all behind the header.
_HEADER = struct.Struct('<8sIII')
_VERSION = 2
_CHUNK = 1 << 20


@dataclass(frozen=True)
class StructureFacts:
    """What is known of a structure.

    Attributes:
        kind: name in :data:`~mmdml.index.structures.STRUCTURES`.
        store: identity of the store, as hexadecimal digits.
        rows: that it covers.
        effort: position in the structure's efforts that searches spend.
        recall: share of the ten exact neighbors that are found, measured on rows of the store when it was built.
        seconds: that building took.
        checksum: of the vector of the last row, by which a store that went back to an earlier state shows.
    """

    kind: str
    store: str
    rows: int
    effort: int
    recall: float
    seconds: float
    checksum: int


def write_structure(path: Path, structure: Structure, ids: np.ndarray, facts: StructureFacts) -> None:
    """Write a structure, whole or not at all.

    Args:
        path: of the file.
        structure: with an index of faiss.
        ids: ``(N,)`` int64 ids of its rows.
        facts: about it.
    """
    import faiss

    text = json.dumps(asdict(facts)).encode()
    with replaced_when_whole(path) as beside, open(beside, 'wb') as file:
        file.write(_HEADER.pack(_MAGIC, _VERSION, len(text), 0))
        writer = _Checksum(file.write)
        writer(text)
        writer(np.ascontiguousarray(ids, np.int64).tobytes())
        faiss.write_index(structure.index, faiss.PyCallbackIOWriter(writer))
        file.seek(0)
        file.write(_HEADER.pack(_MAGIC, _VERSION, len(text), writer.value))


def read_structure(path: Path, store: str) -> tuple[Structure, np.ndarray, StructureFacts]:
    """Read a structure, the ids of its rows, and its facts.

    Args:
        path: of the file.
        store: identity of the store that it must belong to.

    Raises:
        FileNotFoundError: there is none.
        ValueError: the file is no structure, cut, changed, or another store's.
    """
    import faiss

    with open(path, 'rb') as file:
        facts = _checked_facts(file, path)
        if facts.store != store:
            raise ValueError(f'{printable(path)} belongs to another store')
        ids = np.frombuffer(file.read(8 * facts.rows), np.int64)
        index = faiss.read_index(faiss.PyCallbackIOReader(file.read))
    return STRUCTURES[facts.kind](index, facts.effort), ids, facts


def _checked_facts(file: IO[bytes], path: Path) -> StructureFacts:
    """Read the facts after a comparison of the whole file with its checksum."""
    header = file.read(_HEADER.size)
    if len(header) < _HEADER.size or not header.startswith(_MAGIC):
        raise ValueError(f'{printable(path)} is no search structure')
    _, version, length, checksum = _HEADER.unpack(header)
    found = 0
    while chunk := file.read(_CHUNK):
        found = zlib.crc32(chunk, found)
    if found != checksum or version != _VERSION:
        raise ValueError(f'{printable(path)} was cut or changed, or written by another version')
    file.seek(_HEADER.size)
    return StructureFacts(**json.loads(file.read(length)))


class _Checksum:
    """Passes bytes on and sums them up."""

    def __init__(self, write: Callable[[bytes], int]) -> None:
        self._write, self.value = write, 0

    def __call__(self, data: bytes) -> int:
        self.value = zlib.crc32(data, self.value)
        return self._write(data)
