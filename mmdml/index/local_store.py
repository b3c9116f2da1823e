"""The store that needs nothing but a folder."""

import os
import sqlite3
import threading
import uuid
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from mmdml.index.catalog import Catalog
from mmdml.index.checks import check_ids, check_items, check_k, check_vectors
from mmdml.index.exact_search import Gallery
from mmdml.index.store_folder import (
    CATALOG,
    claim_folder,
    create_store,
    no_store,
    remove_other_vectors,
    vectors_path,
)
from mmdml.index.vector_file import VectorFile
from mmdml.index.vector_store import Item, Neighbors, Row, VectorStore, Wanted, Where
from mmdml.utils.names import printable

# Vectors that are checked at each open.
_SAMPLE = 64
_PAGE = 1000


class LocalStore(VectorStore):
    """Vectors in a file that is mapped into memory, the rest in SQLite, both in one folder.

    Vectors are written first and count once their rows are committed, so that a kill or a power cut at any moment
    leaves the rows of all calls that returned; what a writer left behind them is cut off at the next open to write.
    Readers see the last commit, also of a writer beside them. Searches are exact. Nothing in the folder is code.
    Deleted and replaced rows keep their place in the file until :meth:`compact`.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> folder = tempfile.mkdtemp()
        >>> with LocalStore.open(folder, dimensions=2, model_hash='m', write=True) as store:
        ...     ids = store.add(np.eye(2), [Item('a.jpg', 'beech'), Item('b.jpg', 'oak')])
        ...     store.search(np.array([[0.6, 0.8]]), k=2).ids.tolist()
        [[1, 0]]
    """

    def __init__(self, folder: Path, catalog: Catalog, lock: int | None) -> None:
        self.folder = folder
        self._catalog, self._writer = catalog, lock
        self._facts = facts = catalog.facts()
        self.dimensions, self.model_hash, self.model = facts['dimensions'], facts['model_hash'], facts['model']
        self.identity: str = facts['store']
        self._vectors: VectorFile | None = None
        # One connection serves all threads.
        self._access = threading.RLock()
        self._live: tuple[tuple[int, int], np.ndarray, np.ndarray] | None = None
        self._closed = False
        self.gallery()

    @classmethod
    def _open(cls, address: str | Path, write: bool, wanted: Wanted) -> 'LocalStore':
        folder = Path(address)
        if not write and not (folder / CATALOG).exists():
            raise no_store(address)
        with ExitStack() as undo:
            lock = claim_folder(folder) if write else None
            if lock is not None:
                undo.callback(os.close, lock)
            if not (folder / CATALOG).exists():
                create_store(folder, wanted)
            catalog = Catalog(folder / CATALOG, write)
            undo.callback(catalog.close)
            wanted.check(folder.absolute(), catalog.facts())
            store = cls(folder, catalog, lock)
            undo.pop_all()
            undo.callback(store.close)
            store.verify(_SAMPLE)
            if write:
                remove_other_vectors(folder, store._vectors.path)
            undo.pop_all()
        return store

    def add(self, vectors: np.ndarray, items: Sequence[Item]) -> np.ndarray:
        self._need_writer()
        vectors = check_vectors(vectors, self.dimensions)
        check_items(items, len(vectors))
        if not len(vectors):
            return np.empty(0, np.int64)
        checksums = [zlib.crc32(row) for row in vectors]
        with self._access:
            first, place = self._catalog.next_id(), self._catalog.places()
            self._vectors.append(place, vectors)
            try:
                with self._change():
                    self._catalog.add(first, place, items, checksums)
            except BaseException:
                self._vectors.cut(self._catalog.places())
                raise
        return np.arange(first, first + len(vectors))

    def delete(self, ids: Sequence[int]) -> int:
        self._need_writer()
        with self._access, self._change():
            return self._catalog.delete(check_ids(ids))

    def compact(self) -> int:
        """Write the vectors anew without those of deleted and replaced rows, and return how many these were.

        Ids stay. A kill at any moment leaves the store as it was before or as it is after; readers go on.

        Raises:
            PermissionError: the store was opened to read.
            OSError: the disk is full; the store is as before.
        """
        self._need_writer()
        with self._access:
            gallery, before = self.gallery(), self._catalog.places()
            if len(gallery.ids) == before:
                return 0
            generation, identity = self._facts['generation'] + 1, uuid.uuid4().bytes
            path = vectors_path(self.folder, generation)
            try:
                VectorFile.copy(path, identity, gallery.matrix, gallery.places)
                with self._change():
                    self._catalog.compact(generation=generation, identity=identity)
            finally:
                self.gallery()
                remove_other_vectors(self.folder, self._vectors.path)
            return before - len(gallery.ids)

    def count(self, where: Where | None = None) -> int:
        with self._access:
            return self._catalog.count(where)

    def search(self, vectors: np.ndarray, k: int, where: Where | None = None) -> Neighbors:
        k, queries = check_k(k), check_vectors(vectors, self.dimensions)
        return self.gallery(where).search(queries, k)

    def gallery(self, where: Where | None = None) -> Gallery:
        """Return the live rows that fit, with all vectors, as of one moment."""
        with self._access:
            while True:
                with self._catalog.transaction():
                    change, facts, count = self._catalog.change, self._catalog.facts(), self._catalog.places()
                    known = None if where or self._live is None or self._live[0] != change else self._live[1:]
                    ids, places = known or self._catalog.live(where)
                if self._vectors is None or facts['generation'] != self._facts['generation']:
                    try:
                        self._open_vectors(facts, count)
                    except ValueError:
                        if self._catalog.facts()['generation'] != facts['generation']:
                            continue  # the writer compacted the store again
                        raise
                if not where:
                    self._live = change, ids, places
                return Gallery(ids, places, self._vectors.mapped(int(places[-1]) + 1 if len(places) else 0))

    def get(self, ids: Sequence[int]) -> list[Row | None]:
        ids = check_ids(ids)
        with self._access:
            found = self._catalog.get(ids)
        return [found.get(each) for each in ids]

    def vectors(self, ids: Sequence[int]) -> np.ndarray:
        gallery, ids = self.gallery(), np.array(check_ids(ids), np.int64)
        at = np.searchsorted(gallery.ids, ids)
        missing = ids[np.searchsorted(gallery.ids, ids, 'right') == at]
        if len(missing):
            raise ValueError(f'the store has no row {missing.min()}')
        return gallery.matrix[gallery.places[at]]

    def values(self, column: str) -> dict[str, int]:
        with self._access:
            return self._catalog.values(column)

    def rows(self, where: Where | None = None) -> Iterator[Row]:
        last = -1  # rows that are added meanwhile are seen
        while True:
            with self._access:
                page = self._catalog.page(last, where, _PAGE)
            yield from page
            if len(page) < _PAGE:
                return
            last = page[-1].id

    def ids(self, where: Where | None = None) -> np.ndarray:
        with self._access:
            return self._catalog.live(where)[0]

    def verify(self, sample: int | None = None) -> None:
        """Compare vectors with the checksums that were taken when they were added.

        Args:
            sample: number of rows, spread over the file. Default: all.

        Raises:
            ValueError: a vector is another than the one that was added.
        """
        with self._access:
            self.gallery()
            with self._catalog.transaction():
                if self._catalog.facts()['generation'] != self._facts['generation']:
                    return  # the writer compacted the store just now, from vectors that this one read
                count = self._catalog.places()
                number = count if sample is None else min(sample, count)
                places = np.unique(np.linspace(0, count - 1, number, dtype=int))
                checksums = self._catalog.checksums(places)
            self._vectors.verify(count, places, checksums)

    def close(self) -> None:
        with self._access:
            if self._closed:
                return
            self._closed = True
            self._catalog.close()
            self._vectors.close()
            if self._writer is not None:
                os.close(self._writer)

    @contextmanager
    def _change(self) -> Iterator[None]:
        """Let the changes of the block become true at its end, all or none."""
        try:
            with self._catalog.transaction(write=True):
                yield
        except sqlite3.Error as error:
            raise OSError(f'{printable(self.folder)}: {error}; nothing was changed, the store is as before') from error

    def _open_vectors(self, facts: dict[str, Any], count: int) -> None:
        """Go over to the vectors that the facts name."""
        path = vectors_path(self.folder, facts['generation'])
        vectors = VectorFile(path, self.dimensions, facts['identity'], count, self._writer is not None)
        if self._vectors is not None:
            self._vectors.close()
        self._vectors, self._facts = vectors, facts

    def _need_writer(self) -> None:
        if self._writer is None:
            raise PermissionError(f'{printable(self.folder)} was opened to read; open it with write=True')
