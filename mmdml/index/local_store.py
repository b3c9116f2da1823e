"""The store that needs nothing but a folder."""

import fcntl
import os
import sqlite3
import threading
import uuid
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from mmdml.index.catalog import Catalog
from mmdml.index.exact_search import exact_neighbors
from mmdml.index.vector_file import VectorFile
from mmdml.index.vector_store import Item, Neighbors, Row, VectorStore, Where, check_items, check_vectors
from mmdml.utils.names import printable

_CATALOG, _VECTORS, _LOCK = 'store.db', 'vectors.f32', 'lock'
# Vectors that are checked at each open.
_SAMPLE = 64
_PAGE = 1000


class LocalStore(VectorStore):
    """Vectors in a file that is mapped into memory, the rest in SQLite, both in one folder.

    Vectors are written first and count once their rows are committed, so that a kill or a power cut at any moment
    leaves the rows of all calls that returned; what a writer left behind them is cut off at the next open to write.
    Readers see the last commit, also of a writer beside them. Searches are exact. Nothing in the folder is code.

    Deleted and replaced rows keep their place in the file.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> folder = tempfile.mkdtemp()
        >>> with LocalStore.open(folder, dimensions=2, model_hash='m', write=True) as store:
        ...     ids = store.add(np.eye(2), [Item('a.jpg', 'beech'), Item('b.jpg', 'oak')])
        ...     store.search(np.array([[0.6, 0.8]]), k=2).ids.tolist()
        [[1, 0]]
    """

    def __init__(self, folder: Path, catalog: Catalog, vectors: VectorFile, lock: int | None) -> None:
        self.folder = folder
        self.dimensions, self.model_hash = catalog.facts['dimensions'], catalog.facts['model_hash']
        self._catalog, self._vectors, self._writer = catalog, vectors, lock
        # One connection serves all threads.
        self._access = threading.RLock()
        self._live: tuple[tuple[int, int], np.ndarray] | None = None
        self._closed = False

    @classmethod
    def open(
        cls, address: str | Path, dimensions: int | None = None, model_hash: str | None = None, write: bool = False
    ) -> 'LocalStore':
        """Open the store in a folder, see :meth:`VectorStore.open`."""
        folder = Path(address)
        there = (folder / _CATALOG).exists()
        if not there and not write:
            raise FileNotFoundError(f'there is no store in {printable(folder.absolute())}; open it with write=True')
        lock = _lock(folder) if write else None
        catalog = None
        try:
            if not (folder / _CATALOG).exists():
                _create(folder, dimensions, model_hash)
            catalog = Catalog(folder / _CATALOG, write)
            _check_facts(folder, catalog, dimensions, model_hash)
            facts = catalog.facts
            vectors = VectorFile(folder / _VECTORS, facts['dimensions'], facts['identity'], catalog.written(), write)
            store = cls(folder, catalog, vectors, lock)
        except BaseException:
            if catalog is not None:
                catalog.close()
            if lock is not None:
                os.close(lock)
            raise
        try:
            store.verify(_SAMPLE)
        except BaseException:
            store.close()
            raise
        return store

    def add(self, vectors: np.ndarray, items: Sequence[Item]) -> np.ndarray:
        """As :meth:`VectorStore.add`."""
        self._need_writer()
        vectors = check_vectors(vectors, self.dimensions)
        check_items(items, len(vectors))
        checksums = [zlib.crc32(row) for row in vectors]
        with self._access:
            first = self._catalog.written()
            self._vectors.append(first, vectors)
            try:
                with self._catalog.transaction(write=True):
                    self._catalog.add(first, items, checksums)
            except BaseException as error:
                self._vectors.cut(self._catalog.written())
                if not isinstance(error, sqlite3.Error):
                    raise
                raise OSError(
                    f'{printable(self.folder)}: {error}; nothing was added, the store is as before'
                ) from error
        return np.arange(first, first + len(vectors))

    def delete(self, ids: Sequence[int]) -> int:
        """As :meth:`VectorStore.delete`."""
        self._need_writer()
        with self._access, self._catalog.transaction(write=True):
            return self._catalog.delete(ids)

    def count(self, where: Where | None = None) -> int:
        """As :meth:`VectorStore.count`."""
        with self._access:
            return self._catalog.count(where)

    def search(self, vectors: np.ndarray, k: int, where: Where | None = None) -> Neighbors:
        """As :meth:`VectorStore.search`; exact."""
        if k < 1:
            raise ValueError(f'k={k} must be 1 or more')
        queries = check_vectors(vectors, self.dimensions)
        with self._access:
            ids = self._ids(where)
            gallery = self._vectors.mapped(int(ids[-1]) + 1 if len(ids) else 0)
        return exact_neighbors(queries, gallery, ids, k)

    def get(self, ids: Sequence[int]) -> list[Row | None]:
        """As :meth:`VectorStore.get`."""
        with self._access:
            found = self._catalog.get(ids)
        return [found.get(int(each)) for each in ids]

    def vectors(self, ids: Sequence[int]) -> np.ndarray:
        """As :meth:`VectorStore.vectors`."""
        ids = np.asarray(ids, dtype=np.int64)
        with self._access:
            missing = set(ids.tolist()) - self._catalog.get(ids.tolist()).keys()
            if missing:
                raise ValueError(f'the store has no row {min(missing)}')
            return self._vectors.mapped(int(ids.max()) + 1 if len(ids) else 0)[ids]

    def rows(self, where: Where | None = None) -> Iterator[Row]:
        """As :meth:`VectorStore.rows`; rows that are added meanwhile are seen."""
        last = -1
        while True:
            with self._access:
                page = self._catalog.page(last, where, _PAGE)
            yield from page
            if len(page) < _PAGE:
                return
            last = page[-1].id

    def verify(self, sample: int | None = None) -> None:
        """Compare vectors with the checksums that were taken when they were added.

        Args:
            sample: number of rows, spread over the file. Default: all.

        Raises:
            ValueError: a vector is another than the one that was added.
        """
        with self._access:
            count = self._catalog.written()
            ids = (
                np.arange(count)
                if sample is None
                else np.unique(np.linspace(0, count - 1, min(sample, count), dtype=int))
            )
            rows = self._vectors.mapped(count)
            for number, checksum in zip(ids.tolist(), self._catalog.checksums(ids), strict=True):
                if zlib.crc32(rows[number]) != checksum:
                    raise ValueError(
                        f'{printable(self.folder / _VECTORS)} was changed or exchanged: vector {number} is not the one '
                        'that was added; restore the whole folder from a copy, or make the store anew'
                    )

    def close(self) -> None:
        """As :meth:`VectorStore.close`."""
        with self._access:
            if self._closed:
                return
            self._closed = True
            self._catalog.close()
            self._vectors.close()
            if self._writer is not None:
                os.close(self._writer)

    def _ids(self, where: Where | None) -> np.ndarray:
        """Ids of live rows; all of them are kept until something changes."""
        if where:
            return self._catalog.ids(where)
        change = self._catalog.change
        if self._live is None or self._live[0] != change:
            self._live = change, self._catalog.ids()
        return self._live[1]

    def _need_writer(self) -> None:
        if self._writer is None:
            raise PermissionError(f'{printable(self.folder)} was opened to read; open it with write=True')


def _lock(folder: Path) -> int:
    """Take the writer's lock, which the kernel releases when this process ends."""
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        holder = os.pread(descriptor, 100, 0).decode(errors='replace')
        os.close(descriptor)
        raise RuntimeError(
            f'{printable(folder.absolute())} is being written to ({holder}); wait until it is done, or open it to read'
        ) from None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f'process {os.getpid()}'.encode(), 0)
    return descriptor


def _create(folder: Path, dimensions: int | None, model_hash: str | None) -> None:
    """Make an empty store; the catalog, which makes it one, comes last."""
    others = [each.name for each in folder.iterdir() if each.name not in (_LOCK, _VECTORS) and each.name[0] != '.']
    if others or VectorFile.holds_rows(folder / _VECTORS):
        raise ValueError(
            f'{printable(folder.absolute())} holds other files and no {_CATALOG}, e.g. '
            f'{printable(others[0] if others else _VECTORS)}; choose another folder for the store'
        )
    if not dimensions or not model_hash:
        raise ValueError('a new store needs dimensions and model_hash')
    identity = uuid.uuid4().bytes
    VectorFile.create(folder / _VECTORS, dimensions, identity)
    Catalog.create(folder / _CATALOG, dict(dimensions=dimensions, model_hash=model_hash, identity=identity))


def _check_facts(folder: Path, catalog: Catalog, dimensions: int | None, model_hash: str | None) -> None:
    facts = catalog.facts
    if model_hash is not None and facts['model_hash'] != model_hash:
        raise ValueError(
            f'{printable(folder.absolute())} holds vectors of another model or pre-processing '
            f'({facts["model_hash"][:12]}, not {model_hash[:12]}); use that model, or make a store anew'
        )
    if dimensions is not None and facts['dimensions'] != dimensions:
        raise ValueError(f'{printable(folder.absolute())} holds {facts["dimensions"]} dimensions, not {dimensions}')
