"""The contract of stores, on every store there is."""

from pathlib import Path

import numpy as np
import pytest
import torch

from mmdml.index import FaissStore, Item, LocalStore, Row
from mmdml.index.milvus_store import MilvusStore


class WithGraph(FaissStore):
    """A store whose structure covers all but the last row that was added."""

    kind = 'hnsw'

    def add(self, vectors, items):
        ids = super().add(vectors, items)
        if self.count() > 2:
            last = self.gallery().ids[-1:]
            hidden = self.gallery
            self.gallery = lambda where=None: hidden(where).part(slice(len(hidden(where).ids) - 1))
            try:
                self.build(self.kind)
            finally:
                del self.gallery
            assert last not in self._load().ids
        return ids


class WithCodes(WithGraph):
    kind = 'int8'


#: Store classes with what makes an address of a temporary folder.
STORES = {
    'local': (LocalStore, lambda folder: folder / 'store'),
    'faiss': (FaissStore, lambda folder: folder / 'store'),
    'faiss hnsw': (WithGraph, lambda folder: folder / 'store'),
    'faiss int8': (WithCodes, lambda folder: folder / 'store'),
    'milvus-lite': (MilvusStore, lambda folder: folder / 'store.db'),
}


def unit(*shape, seed=0):
    rows = np.random.default_rng(seed).standard_normal(shape)
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


def items(number, start=0):
    return [Item(f'{i}.jpg', f'class {i % 3}', 100 + i, f'{i:x}') for i in range(start, start + number)]


@pytest.fixture(params=STORES)
def opened(request, tmp_path, monkeypatch):
    """Opens the store of a test, to write unless told otherwise."""
    monkeypatch.setattr('mmdml.index.faiss_store.FEWEST', 2)
    if request.param == 'milvus-lite':
        pytest.importorskip('milvus_lite', reason='milvus-lite has no package for this platform')
    kind, address = STORES[request.param]
    stores = []

    def open_store(dimensions=8, model_hash='model', write=True):
        stores.append(kind.open(address(tmp_path), dimensions, model_hash, write, model='its name'))
        return stores[-1]

    yield open_store
    for store in stores:
        store.close()


def expected(queries, vectors, ids, k):
    """Scores in fp64 and ids by a full sort; equal scores by id."""
    scores = queries.astype(np.float64) @ vectors.astype(np.float64).T
    order = np.argsort(-scores, axis=1, kind='stable')[:, :k]
    return np.take_along_axis(scores, order, 1), np.asarray(ids)[order]


def test_neighbors_are_those_of_a_full_sort_with_their_scores(opened):
    store, vectors, queries = opened(), unit(200, 8), unit(7, 8, seed=1)
    ids = np.concatenate([store.add(vectors[:150], items(150)), store.add(vectors[150:], items(50, 150))])
    assert len(set(ids.tolist())) == 200 and store.count() == 200
    found = store.search(queries, k=10)
    scores, nearest = expected(queries, vectors, ids, 10)
    np.testing.assert_array_equal(found.ids, nearest)
    np.testing.assert_allclose(found.scores, scores, atol=1e-6)
    assert found.scores.dtype == np.float32 and found.ids.dtype == np.int64


def test_of_equal_scores_the_lower_id_comes_first_and_places_without_neighbor_are_marked(opened):
    store = opened()
    ids = store.add(np.repeat(unit(1, 8), 6, axis=0), items(6))
    found = store.search(unit(1, 8), k=4)
    np.testing.assert_array_equal(found.ids, [ids[:4]])
    found = store.search(unit(1, 8), k=8)
    np.testing.assert_array_equal(found.ids, [[*ids, -1, -1]])
    assert np.isneginf(found.scores[0, 6:]).all()
    assert store.search(np.empty((0, 8), np.float32), k=3).ids.shape == (0, 3)


def test_an_empty_store_has_no_neighbors(opened):
    store = opened()
    assert store.add(np.empty((0, 8), np.float32), []).tolist() == []
    assert store.count() == 0 and list(store.rows()) == []
    np.testing.assert_array_equal(store.search(unit(2, 8), k=2).ids, [[-1, -1], [-1, -1]])


def test_where_limits_a_search_to_labels_paths_and_sizes(opened):
    store, vectors, query = opened(), unit(60, 8), unit(3, 8, seed=1)
    ids = store.add(vectors, items(60))
    for where, fits in (
        ({'label': 'class 1'}, np.arange(60) % 3 == 1),
        ({'label': ['class 0', 'class 2']}, np.arange(60) % 3 != 1),
        ({'label': 'class 1', 'size': [101, 104, 102]}, np.isin(np.arange(60), [1, 4])),
        ({'path': '5.jpg'}, np.arange(60) == 5),
        ({'label': 'none such'}, np.zeros(60, bool)),
        ({'label': []}, np.zeros(60, bool)),
    ):
        assert store.count(where) == fits.sum(), where
        assert [row.id for row in store.rows(where)] == store.ids(where).tolist() == ids[fits].tolist()
        found = store.search(query, k=5, where=where)
        number = min(5, fits.sum())
        np.testing.assert_array_equal(found.ids[:, :number], expected(query, vectors[fits], ids[fits], 5)[1])
        assert (found.ids[:, number:] == -1).all()
    with pytest.raises(ValueError, match="column 'labels'; there are path, label"):
        store.search(query, k=1, where={'labels': 'class 1'})


def test_metadata_come_back_limit_searches_and_are_counted(opened):
    store, vectors = opened(), unit(6, 8)
    cameras = ['c1', "c'2", 'c1', 'caf\udce9', 'c1']
    given = [Item(f'{n}.jpg', f'class {n % 2}', metadata={'camera': each}) for n, each in enumerate(cameras)]
    ids = store.add(vectors, [*given, Item('5.jpg', 'none', metadata={'day': '007'})])
    assert [row.item for row in store.get(ids)][:5] == given and store.get(ids[5:])[0].item.metadata == {'day': '007'}
    for where, fits in (
        ({'camera': 'c1'}, [0, 2, 4]),
        ({'camera': ["c'2", 'caf\udce9']}, [1, 3]),
        ({'camera': 'c1', 'label': 'class 1'}, []),
        ({'day': '007'}, [5]),
        ({'day': '7'}, []),
    ):
        assert [row.id for row in store.rows(where)] == store.ids(where).tolist() == ids[fits].tolist()
        assert sorted(each for each in store.search(vectors[:1], 6, where).ids[0].tolist() if each >= 0) == sorted(
            ids[fits].tolist()
        )
    store.delete(ids[:1])
    assert store.values('camera') == {'c1': 2, "c'2": 1, 'caf\udce9': 1}
    assert store.values('label') == {'class 0': 2, 'class 1': 2, 'none': 1}
    for refused in (lambda: store.values('lens'), lambda: store.count({'lens': 'c1'})):
        with pytest.raises(ValueError, match="column 'lens'; there are path, label, size, content_hash, camera, day"):
            refused()
    for metadata, message in (({'label': 'a'}, 'rows have that column already'), ({'camera': 2}, 'metadata are texts')):
        with pytest.raises(ValueError, match=message):
            store.add(vectors[:1], [Item('new.jpg', metadata=metadata)])


def test_deleted_rows_are_not_found_and_their_ids_not_given_again(opened):
    store, vectors = opened(), unit(20, 8)
    ids = store.add(vectors, items(20))
    assert store.delete([ids[3], ids[7], 10**6]) == 2 and store.delete([ids[3]]) == 0
    assert store.count() == 18 and store.get([ids[3], ids[4]]) == [None, Row(ids[4], items(20)[4])]
    assert not {ids[3], ids[7]} & set(store.search(vectors, k=20).ids.ravel().tolist())
    again = store.add(vectors[3:4], items(1, 3))
    assert again[0] not in ids and store.count() == 19
    with pytest.raises(ValueError, match=f'no row {ids[7]}'):
        store.vectors([ids[7]])


def test_a_row_of_the_same_path_is_replaced(opened):
    store, vectors = opened(), unit(6, 8)
    ids = store.add(vectors[:5], items(5))
    new = store.add(vectors[5:], [Item('2.jpg', 'other', 7, 'new')])
    assert store.count() == 5 and store.get([ids[2]]) == [None]
    assert store.get(new) == [Row(new[0], Item('2.jpg', 'other', 7, 'new'))]
    assert store.search(vectors[5:], k=1).ids.tolist() == [new.tolist()]
    np.testing.assert_array_equal(store.vectors([new[0], ids[0]]), vectors[[5, 0]])


def test_rows_are_there_after_closing_with_any_name_a_file_may_have(opened):
    names = ['café.jpg', 'two\nlines.jpg', 'caf\udce9.jpg', "'; DROP TABLE rows; --", '../up.jpg', '']
    store, vectors = opened(), unit(len(names), 8)
    ids = store.add(vectors, [Item(name, name, 1, '') for name in names])
    store.close()
    store.close()
    store = opened(write=False)
    assert [row.item.path for row in store.get(ids)] == names == [row.item.label for row in store.rows()]
    assert store.count({'label': 'caf\udce9.jpg'}) == 1
    np.testing.assert_array_equal(store.search(vectors, k=1).ids[:, 0], ids)


def test_another_models_vectors_and_rows_that_are_no_unit_vectors_are_refused(opened):
    store = opened()
    store.add(unit(2, 8), items(2))
    for rows, given, message in (
        (unit(1, 9), items(1), 'vectors of 8 dimensions'),
        (unit(1, 8) * 2, items(1), '1 of 1 vectors are not of length 1, e.g. row 0 with 2'),
        (unit(1, 8) * np.nan, items(1), 'not of length 1'),
        (unit(2, 8), items(1), '2 vectors need as many items, got 1'),
        (unit(2, 8), items(1) * 2, "'0.jpg' comes twice"),
    ):
        with pytest.raises(ValueError, match=message):
            store.add(rows, given)
    with pytest.raises(ValueError, match='k=0 must be 1 or more'):
        store.search(unit(1, 8), k=0)
    assert store.count() == 2
    store.close()
    for write in (True, False):
        with pytest.raises(ValueError, match='vectors of another model or pre-processing'):
            opened(model_hash='another', write=write)
        with pytest.raises(ValueError, match='8 dimensions, not 4'):
            opened(dimensions=4, write=write)
    reopened = opened(None, None, write=False)
    assert (reopened.model_hash, reopened.model) == ('model', 'its name')


def test_readers_see_each_commit_of_a_writer_beside_them_and_cannot_write(opened):
    writer, vectors = opened(), unit(30, 8)
    readers = [opened(write=False), opened(write=False)]
    for start in range(0, 30, 10):
        ids = writer.add(vectors[start : start + 10], items(10, start))
        for reader in readers:
            assert reader.count() == start + 10
            np.testing.assert_array_equal(reader.search(vectors[start : start + 10], k=1).ids[:, 0], ids)
    writer.delete(ids[:1])
    assert ids[0] not in readers[0].search(vectors, k=30).ids
    for change in (lambda: readers[0].add(vectors[:1], items(1)), lambda: readers[0].delete([0])):
        with pytest.raises(PermissionError, match='opened to read'):
            change()
    with pytest.raises(RuntimeError, match='is being written to'):
        opened()
    writer.close()
    assert opened().count() == 29


def test_without_a_store_there_is_nothing_to_read_and_making_one_needs_its_facts(opened):
    with pytest.raises(FileNotFoundError, match='there is no store in'):
        opened(write=False)
    with pytest.raises(ValueError, match='needs dimensions and model_hash'):
        opened(None, None)
    for wrong in (8.0, -8):
        with pytest.raises(ValueError, match='dimensions must be an integer of at least 1'):
            opened(wrong)


def test_numbers_of_numpy_are_numbers(opened):
    opened(np.int64(8)).close()
    store, vectors = opened(), unit(3, 8)
    ids = store.add(vectors, [Item(f'{size}.jpg', size=size) for size in np.arange(3)])
    assert store.dimensions == 8 and [row.item.size for row in store.rows()] == [0, 1, 2]
    assert [store.count({'size': size}) for size in (np.int64(2), [np.int64(1)], 2, '2')] == [1, 1, 1, 1]
    np.testing.assert_array_equal(store.search(vectors, k=np.int64(1)).ids[:, 0], ids)


def test_a_mask_deletes_no_rows_and_other_ids_that_are_no_numbers_are_refused(opened):
    store = opened()
    ids = store.add(unit(3, 8), items(3))
    for wrong in (np.array([True, False, True]), [True], [1.5], ['1'], [None]):
        for use in (store.delete, store.get, store.vectors):
            with pytest.raises(ValueError, match='ids must be whole numbers'):
                use(wrong)
    for beyond in (10**21, 10**400):
        with pytest.raises(ValueError, match='ids must be whole numbers of 64 bits, got 10'):
            store.get([beyond])
    assert store.count() == 3 and store.delete(np.array([])) == 0 and store.get(ids[:0]) == []
    # A table that lacks some ids hands on the others as floats.
    same = store.get(ids)
    assert store.get(np.array(ids, np.float64)) == store.get([torch.tensor(each) for each in ids]) == same
    assert [store.count({'path': Path(row.item.path)}) for row in same] == [1, 1, 1]


WRONG_ITEMS = [
    (Item('new.jpg', 3), 'label=3'),
    (Item('new.jpg', None), 'label=None'),
    (Item(b'new.jpg'), "path=b'new.jpg'"),
    (Item('new\ud800.jpg'), 'path='),
    (Item('new.jpg', size='7'), "size='7'"),
    (Item('new.jpg', size=7.5), 'size=7.5'),
    (Item('new.jpg', size=2**63), 'size=9223372036854775808'),
    (Item('new.jpg', content_hash=7), 'content_hash=7'),
    (Item('new.jpg', content_hash='\udcff'), 'content_hash='),
    (Item('new.jpg', metadata=None), 'metadata=None'),
    (Item('new.jpg', metadata={7: 'a'}), 'metadata 7='),
    (Item('new.jpg', metadata={'\udcff': 'a'}), 'metadata '),
]


def test_items_and_conditions_of_another_kind_are_named_and_change_nothing(opened):
    store, vectors = opened(), unit(2, 8)
    store.add(vectors[:1], [Item('0.jpg', 'None', 2, metadata={'camera': 'c1'})])
    for item, message in WRONG_ITEMS:
        with pytest.raises(ValueError, match=message):
            store.add(vectors[1:], [item])
    for where in (
        *({'label': wrong} for wrong in (None, b'a', 1.5, ['a', None], '\ud800')),
        *({'size': wrong} for wrong in (2.5, [2.5], '1_0', None, 2**63, -1)),
        'label',
        ['label'],
    ):
        for use in (store.count, lambda where: store.search(vectors, 1, where), lambda where: list(store.rows(where))):
            with pytest.raises(ValueError, match='where '):
                use(where)
    for wrong in (2.5, '2', None, True):
        with pytest.raises(ValueError, match='k=.* must be 1 or more'):
            store.search(vectors, wrong)
    for column in ('path', 'size', 'content_hash'):
        with pytest.raises(ValueError, match=f"values of '{column}' are not counted, those of label, camera are"):
            store.values(column)
    store.add(vectors[1:], items(1, 1))
    assert store.count() == 2
