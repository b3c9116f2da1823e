"""The local store with a search structure over its vectors."""

import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mmdml.index.checks import check_k, check_vectors
from mmdml.index.exact_search import Gallery, merge_neighbors
from mmdml.index.local_store import LocalStore
from mmdml.index.structure_file import StructureFacts, read_structure, write_structure
from mmdml.index.structures import AUTO, FLAT, STRUCTURES, Structure, check_structure, structure_for
from mmdml.index.vector_store import Neighbors, Where
from mmdml.utils.names import printable

#: Name of the structure's file in the folder of the store.
STRUCTURE = 'structure.faiss'
#: Rows below which a structure makes no sense: training would fail, and a pass over all takes no time.
FEWEST = 256
# Share of the rows that fit below which all of them are compared.
_SELECTIVE = 0.05
# Share of the rows that a structure may lack or have too many before it is made anew.
_STALE = 0.1
# Rows of the store that measure the recall, and neighbors of each.
_SAMPLE, _NEIGHBORS = 200, 10
# Scores that are computed at a time.
_BLOCK = 1 << 24


class _Loaded(NamedTuple):
    stamp: tuple[int, int]
    structure: Structure
    ids: np.ndarray
    facts: StructureFacts


class FaissStore(LocalStore):
    """A local store that compares a query with few of its rows, where a structure of faiss says with which.

    The structure finds candidates; their scores are those of the exact search, and so is their order. Rows that are
    newer than the structure are compared one by one, deleted ones left out, and where few rows fit ``where`` all of
    those are compared: a search never lacks rows because the structure is old. Without one, searches are exact. The
    structure is a file that can be made anew at any time; one that is damaged is left aside with a warning.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> vectors = np.sin(np.arange(16000.0) ** 2).reshape(1000, 16)
        >>> vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        >>> with FaissStore.open(tempfile.mkdtemp(), dimensions=16, model_hash='m', write=True) as store:
        ...     ids = store.add(vectors, [Item(f'{number}.jpg') for number in range(1000)])
        ...     facts = store.build('hnsw', recall=0.9)
        ...     facts.recall >= 0.9, store.search(vectors[7:8], k=1).ids.tolist()
        (True, [[7]])
    """

    _loaded: _Loaded | None = None
    _refused: tuple[int, int] | None = None

    def search(self, vectors: np.ndarray, k: int, where: Where | None = None) -> Neighbors:
        """Return the nearest rows, see :meth:`VectorStore.search`; some may be missed, see :attr:`structure`."""
        k, queries = check_k(k), check_vectors(vectors, self.dimensions)
        gallery, loaded = self.gallery(where), self._load()
        if loaded is None:
            return gallery.search(queries, k)
        covered = int(np.searchsorted(gallery.ids, loaded.ids[-1], 'right'))
        share = covered / len(loaded.ids)
        if share < _SELECTIVE or covered <= k:
            return gallery.search(queries, k)
        found = _search(loaded, gallery.part(slice(covered)), queries, k, share)
        if covered < len(gallery.ids):
            found = merge_neighbors(found, gallery.part(slice(covered, None)).search(queries, k))
        return found

    @property
    def structure(self) -> StructureFacts | None:
        """Facts of the structure that searches use, with its recall; None for exact searches."""
        loaded = self._load()
        return None if loaded is None else loaded.facts

    def build(
        self, structure: str = AUTO, recall: float = 0.95, progress: Callable[[int], None] = lambda done: None
    ) -> StructureFacts | None:
        """Make the search structure anew.

        Args:
            structure: a name of :data:`~mmdml.index.structures.STRUCTURES`; ``'flat'`` for exact searches; ``'auto'``
                chooses by the number of rows.
            recall: share of the exact ten neighbors that a search should find. The least effort that finds it on a
                sample of rows is kept, the largest if none does; the facts say what was measured.
            progress: takes the number of rows that the structure has so far.

        Returns:
            Facts of the structure; None for exact searches, also where there are too few rows for another.

        Raises:
            ValueError: there is no such structure, or a recall out of range.
            PermissionError: the store was opened to read.
        """
        check_structure(structure)
        if not 0 < recall <= 1:
            raise ValueError(f'recall={recall} must be above 0 and at most 1')
        self._need_writer()
        start, gallery = time.monotonic(), self.gallery()
        kind = structure_for(len(gallery.ids)) if structure == AUTO else structure
        if kind == FLAT or len(gallery.ids) < FEWEST:
            self._path.unlink(missing_ok=True)
            return None
        made = STRUCTURES[kind].build(gallery.matrix, gallery.places, progress)
        measured = _tune(made, gallery, recall)
        seconds = round(time.monotonic() - start, 2)
        with self._access:
            checksum = self._catalog.checksum_of(gallery.ids[-1])
        facts = StructureFacts(kind, self.identity, len(gallery.ids), made.effort, measured, seconds, checksum)
        write_structure(self._path, made, gallery.ids, facts)
        return facts

    def refresh(self, structure: str = AUTO, progress: Callable[[int], None] = lambda done: None) -> bool:
        """Make the search structure anew if it is due, see :meth:`build`, and return whether it was.

        It is due where there is another structure than this, or one that lacks a tenth of the rows or has so many more.
        ``'auto'`` keeps the kind of a structure that is there.
        """
        check_structure(structure)
        gallery, loaded = self.gallery(), self._load()
        if structure == AUTO:
            structure = loaded.facts.kind if loaded is not None else structure_for(len(gallery.ids))
        if structure == FLAT or len(gallery.ids) < FEWEST:
            due = self._path.exists()
        elif loaded is None or loaded.facts.kind != structure:
            due = True
        else:
            common = len(np.intersect1d(gallery.ids, loaded.ids, assume_unique=True))
            due = max(len(gallery.ids), len(loaded.ids)) - common > _STALE * len(gallery.ids)
        if due:
            self.build(structure, progress=progress)
        return due

    @property
    def _path(self) -> Path:
        return self.folder / STRUCTURE

    def _load(self) -> _Loaded | None:
        """Return the structure in the file, read again when the file is another."""
        try:
            state = os.stat(self._path)
        except FileNotFoundError:
            self._loaded = None
            return None
        stamp = state.st_ino, state.st_mtime_ns
        loaded = self._loaded
        if loaded is not None and loaded.stamp == stamp:
            return loaded
        with self._access:
            if self._refused == stamp:
                return None
            if self._loaded is None or self._loaded.stamp != stamp:
                try:
                    self._loaded = _Loaded(stamp, *self._read())
                except (OSError, ValueError, RuntimeError) as error:
                    self._loaded, self._refused = None, stamp
                    logging.getLogger('mmdml').warning(
                        '%s; searches are exact until mmdml index makes the structure anew', error
                    )
            return self._loaded

    def _read(self) -> tuple[Structure, np.ndarray, StructureFacts]:
        """Read the structure, and check that the store still has its rows: a copy put back gives their ids anew."""
        structure, ids, facts = read_structure(self._path, self.identity)
        checksum = self._catalog.checksum_of(ids[-1])
        if ids[-1] >= self._catalog.next_id() or checksum not in (None, facts.checksum):
            raise ValueError(
                f'{printable(self._path)} has rows of a later state of the store, an earlier one was put back'
            )
        return structure, ids, facts


def _search(loaded: _Loaded, gallery: Gallery, queries: np.ndarray, k: int, share: float) -> Neighbors:
    """Return the nearest of the rows that are in the structure, and in the gallery."""
    positions = loaded.structure.candidates(queries, k, share)
    scores = np.full((len(queries), k), -np.inf, np.float32)
    ids = np.full((len(queries), k), -1, np.int64)
    step = max(1, _BLOCK // max(1, positions.shape[1] * gallery.matrix.shape[1]))
    for start in range(0, len(queries), step):
        part = slice(start, start + step)
        scores[part], ids[part] = _rescore(loaded.ids, positions[part], gallery, queries[part], k)
    # Where too few candidates fit, all rows are compared.
    short = np.flatnonzero(ids[:, min(k, len(gallery.ids)) - 1] < 0)
    if len(short):
        found = gallery.search(queries[short], k)
        scores[short], ids[short] = found.scores, found.ids
    return Neighbors(scores, ids)


def _rescore(
    covered: np.ndarray, positions: np.ndarray, gallery: Gallery, queries: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the k best of the candidates ``(Q, C)`` by their exact scores, of equal ones the lower id."""
    found = covered[np.maximum(positions, 0)]
    at = np.minimum(np.searchsorted(gallery.ids, found), len(gallery.ids) - 1)
    fits = (positions >= 0) & (gallery.ids[at] == found)
    # Unused places get the vector of some row, and no score.
    scores = np.einsum('qcd,qd->qc', gallery.matrix[gallery.places[at]], queries)
    scores = np.where(fits, scores, -np.inf).astype(np.float32)
    found = np.where(fits, found, -1)
    order = np.lexsort((found, -scores), axis=1)[:, :k]
    best = np.full((len(queries), k), -np.inf, np.float32), np.full((len(queries), k), -1, np.int64)
    best[0][:, : order.shape[1]] = np.take_along_axis(scores, order, 1)
    best[1][:, : order.shape[1]] = np.take_along_axis(found, order, 1)
    return best


def _tune(structure: Structure, gallery: Gallery, recall: float) -> float:
    """Set the least effort that reaches a recall on a sample of rows, and return the recall."""
    rows = np.unique(np.linspace(0, len(gallery.ids) - 1, _SAMPLE, dtype=int))
    queries = np.ascontiguousarray(gallery.matrix[gallery.places[rows]])
    own = gallery.ids[rows]
    k = min(_NEIGHBORS + 1, len(gallery.ids))
    exact = gallery.search(queries, k).ids
    measured = 0.0
    for effort in range(len(structure.efforts)):
        structure.effort = effort
        loaded = _Loaded((0, 0), structure, gallery.ids, None)
        found = _search(loaded, gallery, queries, k, 1.0).ids
        # A row finds itself, which says nothing.
        hits = [len(set(a) & set(b) - {row}) for a, b, row in zip(found.tolist(), exact.tolist(), own, strict=True)]
        wanted = [len(set(b) - {row}) for b, row in zip(exact.tolist(), own, strict=True)]
        measured = sum(hits) / sum(wanted)
        if measured >= recall:
            break
    return round(measured, 4)
