"""The same contract on Milvus, in a file or on a cluster."""

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmdml.index import milvus_client as milvus
from mmdml.index.checks import check_counted, check_ids, check_items, check_k, check_vectors
from mmdml.index.exact_search import Gallery, merge_neighbors
from mmdml.index.milvus_client import MilvusAddress, errors_of
from mmdml.index.store_folder import no_store, take_lock
from mmdml.index.structures import AUTO, FLAT, structure_for
from mmdml.index.vector_store import COLUMNS, Item, Neighbors, Row, VectorStore, Wanted, Where
from mmdml.utils.names import printable

# Bytes of one message to the server, ids in one filter, queries in one search, rows of one answer.
_MESSAGE, _IDS, _QUERIES, _PAGE = 1 << 25, 500, 512, 1000
# The most neighbors that Milvus returns.
_MOST = 16_384
_FIELDS = [*COLUMNS, 'metadata']
#: Structures by the names of the command -> index of Milvus, its options, options of a search.
_INDEXES: dict[str, tuple[str, dict[str, int], dict[str, int]]] = {
    FLAT: ('FLAT', {}, {}),
    'hnsw': ('HNSW', dict(M=16, efConstruction=80), dict(ef=256)),
}
# Rows that are all compared where a condition leaves no more: the graph of HNSW misses some of them.
_FEW = 10_000


class MilvusStore(VectorStore):
    """A store in a milvus-lite file, or in a collection of a Milvus cluster.

    The address is a path that ends in ``.db``, or ``https://host:19530#collection``; the token of a cluster is taken
    from the environment, ``MILVUS_TOKEN``. One process at a time uses a file, to read or to write. On a cluster nothing
    keeps two writers apart: let one process write.

    Searches are exact until :meth:`refresh` makes another index. Needs the extra ``milvus``.

    Example::

        with MilvusStore.open('photos.db', dimensions=256, model_hash=embed.model_hash, write=True) as store:
            update_gallery(store, embed, 'photos')
    """

    def __init__(
        self, address: MilvusAddress, client: Any, facts: dict[str, Any], write: bool, lock: int | None
    ) -> None:
        self.address, self._client, self._facts = address, client, facts
        self.dimensions, self.model_hash, self.model = facts['dimensions'], facts['model_hash'], facts['model']
        self._write, self._lock, self._rows = write, lock, address.collection

    @classmethod
    def _open(cls, address: str | Path, write: bool, wanted: Wanted) -> 'MilvusStore':
        place = MilvusAddress.of(address)
        if place.lite and not write and not os.path.exists(place.uri):
            raise no_store(address)
        lock = take_lock(Path(place.uri), Path(f'{place.uri}.lock')) if place.lite and write else None
        client = None
        try:
            client = milvus.connect(place)
            with errors_of(place):
                facts = milvus.read_facts(client, place)
                if not facts and not write:
                    raise no_store(address)
                if not facts:
                    facts = milvus.create_store(client, place, wanted)
                wanted.check(place.uri, facts)
                client.load_collection(place.collection)
                store = cls(place, client, facts, write, lock)
                if write and facts['unfinished']:
                    store._finish()
            return store
        except BaseException:
            if client is not None:
                client.close()
            if lock is not None:
                os.close(lock)
            raise

    def add(self, vectors: np.ndarray, items: Sequence[Item]) -> np.ndarray:
        self._need_writer()
        vectors = check_vectors(vectors, self.dimensions)
        check_items(items, len(vectors))
        names = sorted({*self._facts['names'], *(name for item in items for name in item.metadata)})
        ids: list[int] = []
        with errors_of(self.address):
            old = self._ids_of_paths([item.path for item in items])
            # A kill before the old rows are gone leaves two of a path: the next writer removes the older.
            self._note(names=names, unfinished=bool(old))
            step = max(1, _MESSAGE // (4 * self.dimensions + 8192))
            try:
                for start in range(0, len(items), step):
                    rows = map(milvus.entity_of, vectors[start : start + step], items[start : start + step])
                    ids += self._client.insert(self._rows, list(rows))['ids']
            except BaseException:
                self._remove(ids)
                raise
            self._remove(old)
            self._note(unfinished=False)
        return np.array(ids, np.int64)

    def delete(self, ids: Sequence[int]) -> int:
        self._need_writer()
        ids = check_ids(ids)
        with errors_of(self.address):
            there = {id for id, row in zip(ids, self.get(ids), strict=True) if row is not None}
            self._remove(sorted(there))
            return len(there)

    def count(self, where: Where | None = None) -> int:
        with errors_of(self.address):
            found = self._client.query(self._rows, filter=self._filter(where), output_fields=['count(*)'])
            return found[0]['count(*)']

    def search(self, vectors: np.ndarray, k: int, where: Where | None = None) -> Neighbors:
        """Return the nearest rows, see :meth:`VectorStore.search`.

        Exact with the index ``flat``, and where ``where`` leaves few rows or the index finds too few.
        """
        k = check_k(k)
        if k > _MOST:
            raise ValueError(f'k={k} must be at most {_MOST:,} in Milvus')
        queries, condition = check_vectors(vectors, self.dimensions), self._filter(where)
        scores = np.full((len(queries), k), -np.inf, np.float32)
        ids = np.full((len(queries), k), -1, np.int64)
        params = dict(_INDEXES[self._facts['structure']][2])
        if params:
            params['ef'] = max(params['ef'], k)  # of fewer candidates there are not k best
        options = dict(metric_type='IP', params=params)
        with errors_of(self.address):
            if params and where and self.count(where) <= _FEW:
                return self._exact(queries, k, condition)
            for start in range(0, len(queries), _QUERIES):
                part = queries[start : start + _QUERIES].tolist()
                found = self._client.search(
                    self._rows, part, filter=condition, limit=k, search_params=options, output_fields=['id']
                )
                for query, hits in enumerate(found, start):
                    hits = sorted(((hit['distance'], hit['id']) for hit in hits), key=lambda hit: (-hit[0], hit[1]))
                    scores[query, : len(hits)] = [score for score, _ in hits]
                    ids[query, : len(hits)] = [id for _, id in hits]
            short = ids[:, -1] < 0
            if params and short.any():
                scores[short], ids[short] = self._exact(queries[short], k, condition)
        return Neighbors(scores, ids)

    def _exact(self, queries: np.ndarray, k: int, condition: str) -> Neighbors:
        """Compare all rows that fit."""
        scores = np.full((len(queries), k), -np.inf, np.float32)
        found = Neighbors(scores, np.full((len(queries), k), -1, np.int64))
        pages = self._client.query_iterator(
            self._rows, batch_size=_PAGE, filter=condition, output_fields=['id', 'vector']
        )
        try:
            while page := pages.next():
                page = sorted(page, key=lambda entity: entity['id'])
                ids = np.array([entity['id'] for entity in page], np.int64)
                vectors = np.array([entity['vector'] for entity in page], np.float32)
                found = merge_neighbors(found, Gallery(ids, np.arange(len(ids)), vectors).search(queries, k))
        finally:
            pages.close()
        return found

    def get(self, ids: Sequence[int]) -> list[Row | None]:
        ids = check_ids(ids)
        with errors_of(self.address):
            found = {entity['id']: milvus.row_of(entity) for entity in self._entities(ids, _FIELDS)}
        return [found.get(id) for id in ids]

    def vectors(self, ids: Sequence[int]) -> np.ndarray:
        ids = check_ids(ids)
        with errors_of(self.address):
            found = {entity['id']: entity['vector'] for entity in self._entities(ids, ['vector'])}
        missing = set(ids) - found.keys()
        if missing:
            raise ValueError(f'the store has no row {min(missing)}')
        return np.array([found[id] for id in ids], np.float32).reshape(-1, self.dimensions)

    def rows(self, where: Where | None = None) -> Iterator[Row]:
        with errors_of(self.address):
            pages = self._client.query_iterator(
                self._rows, batch_size=_PAGE, filter=self._filter(where), output_fields=_FIELDS
            )
            try:
                while page := pages.next():
                    yield from map(milvus.row_of, page)
            finally:
                pages.close()

    def values(self, column: str) -> dict[str, int]:
        self._filter({column: []})  # reads the names anew, and refuses a column that there is not
        check_counted(column, self._facts['names'])
        items = (row.item for row in self.rows())
        found = Counter(item.label if column == 'label' else item.metadata.get(column) for item in items)
        return {value: count for value, count in found.items() if value is not None}

    def refresh(self, structure: str = AUTO, progress: Callable[[int], None] = lambda done: None) -> bool:
        """Bring all rows to the disk, make the index ``flat`` or ``hnsw`` if it is another, and compare the counts.

        Raises:
            ValueError: Milvus makes no such index here.
            RuntimeError: rows are missing.
        """
        self._need_writer()
        if structure == AUTO:
            structure = FLAT if structure_for(self.count()) == FLAT else 'hnsw'
        if structure not in _INDEXES:
            raise ValueError(f'structure={structure!r} is not for a Milvus store; choose {" or ".join(_INDEXES)}')
        with errors_of(self.address):
            before, due = self.count(), structure != self._facts['structure']
            self._client.flush(self._rows)
            if due:
                kind, options, _ = _INDEXES[structure]
                milvus.create_index(self._client, self._rows, 'vector', kind, options)
                self._note(structure=structure)
            self._client.load_collection(self._rows)
            if self.count() != before:
                raise RuntimeError(
                    f'{printable(self.address.uri)}: {self.count()} of {before} rows are left after a flush'
                )
        return due

    def close(self) -> None:
        if self._client is None:
            return
        client, self._client = self._client, None
        try:
            if self._write:
                with errors_of(self.address):
                    client.flush(self._rows)
        finally:
            client.close()
            if self._lock is not None:
                os.close(self._lock)

    def _filter(self, where: Where | None) -> str:
        if where:
            self._facts = milvus.read_facts(self._client, self.address)  # another process may have added names
        return milvus.condition(where, self._facts['names'])

    def _entities(self, ids: Sequence[int], fields: list[str]) -> Iterator[dict[str, Any]]:
        for start in range(0, len(ids), _IDS):
            part = ids[start : start + _IDS]
            yield from self._client.query(self._rows, filter=f'id in {part}', output_fields=['id', *fields])

    def _ids_of_paths(self, paths: Sequence[str]) -> list[int]:
        texts = [milvus.literal(milvus.encoded(path)) for path in paths]
        filters = [f'path in [{", ".join(texts[start : start + _IDS])}]' for start in range(0, len(texts), _IDS)]
        return [row['id'] for each in filters for row in self._client.query(self._rows, each, output_fields=['id'])]

    def _remove(self, ids: Sequence[int]) -> None:
        for start in range(0, len(ids), _IDS):
            self._client.delete(self._rows, ids=list(ids[start : start + _IDS]))

    def _note(self, **facts: Any) -> None:
        """Change facts of the store, if they are others."""
        if any(self._facts[name] != value for name, value in facts.items()):
            self._facts = dict(self._facts, **facts)
            milvus.write_facts(self._client, self.address, self._facts)

    def _finish(self) -> None:
        """Remove rows whose path a newer row has, which a killed writer left."""
        newest: dict[str, int] = {}
        older = []
        for row in self.rows():
            other = newest.get(row.item.path, row.id)
            newest[row.item.path] = max(other, row.id)
            older += {min(other, row.id)} - {newest[row.item.path]}
        self._remove(older)
        self._note(unfinished=False)

    def _need_writer(self) -> None:
        if not self._write:
            raise PermissionError(f'{printable(self.address.uri)} was opened to read; open it with write=True')
