"""Search structures: candidates by faiss, scores and order by the exact search."""

import logging
import resource
import shutil

import numpy as np
import pytest

from mmdml.index import FaissStore, Item, LocalStore
from mmdml.index.structures import STRUCTURES, structure_for

COUNT, DIMENSIONS = 2000, 16


def rows(number, seed=0):
    """Unit vectors in 50 clusters."""
    random = np.random.default_rng(seed)
    centers = np.random.default_rng(99).standard_normal((50, DIMENSIONS))
    found = centers[random.integers(0, 50, number)] + 0.5 * random.standard_normal((number, DIMENSIONS))
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


def items(number, start=0):
    return [Item(f'{n}.jpg', f'class {n % 40}') for n in range(start, start + number)]


@pytest.fixture
def store(tmp_path):
    with FaissStore.open(tmp_path / 'store', DIMENSIONS, 'model', write=True) as store:
        store.add(rows(COUNT), items(COUNT))
        yield store


def exact(store, queries, k, where=None):
    return LocalStore.search(store, queries, k, where)


def recall(found, true):
    return np.mean([np.isin(row, wanted).mean() for row, wanted in zip(found.ids, true.ids, strict=True)])


@pytest.mark.parametrize('kind', STRUCTURES)
def test_a_structure_reaches_the_recall_that_was_measured_and_rescoring_makes_scores_and_order_exact(store, kind):
    facts = store.build(kind, recall=0.95)
    assert (facts.kind, facts.rows, store.structure) == (kind, COUNT, facts) and facts.recall >= 0.95
    queries = rows(100, seed=1)
    found, true = store.search(queries, 10), exact(store, queries, 10)
    assert recall(found, true) > 0.9
    np.testing.assert_allclose(np.sum(store.vectors(found.ids[0]) * queries[0], 1), found.scores[0], atol=1e-6)
    scores = np.zeros(COUNT, np.float32)
    for row in range(100):
        # What was found is in the order, and has the scores, of the search through all rows.
        whole = exact(store, queries[row : row + 1], COUNT)
        scores[whole.ids[0]] = whole.scores[0]
        places = {id: place for place, id in enumerate(whole.ids[0].tolist())}
        assert sorted(found.ids[row].tolist(), key=places.get) == found.ids[row].tolist()
        np.testing.assert_allclose(found.scores[row], scores[found.ids[row]], atol=1e-6)


def test_codes_alone_would_not_have_the_exact_order(store):
    store.build('binary')
    queries = rows(100, seed=1)
    codes = store._load().structure.candidates(queries, 10)[:, :10]
    assert (codes != exact(store, queries, 10).ids).any()


@pytest.mark.parametrize('kind', ['hnsw', 'ivfpq'])
def test_newer_deleted_and_chosen_rows_are_right_with_an_old_structure(store, kind):
    store.build(kind, recall=0.99)
    new = store.add(rows(300, seed=2), items(300, COUNT))
    queries = rows(300, seed=2)
    assert (store.search(queries, 1).ids[:, 0] == new).all()
    store.delete(range(0, COUNT, 2))
    found = store.search(queries[:50], 10)
    assert not (found.ids[found.ids < COUNT] % 2 == 0).any() and recall(found, exact(store, queries[:50], 10)) > 0.95
    for label in ('class 1', [f'class {n}' for n in range(1, 40, 4)]):  # few rows, and many
        where = {'label': label}
        found, true = store.search(queries[:50], 10, where), exact(store, queries[:50], 10, where)
        assert recall(found, true) > 0.95 and (found.ids >= 0).all()
    # More neighbors than fit: all of them.
    true = exact(store, queries[:2], 400, {'label': [f'class {n}' for n in range(1, 40, 4)]})
    found = store.search(queries[:2], 400, {'label': [f'class {n}' for n in range(1, 40, 4)]})
    np.testing.assert_array_equal(found.ids, true.ids)
    store.compact()
    assert recall(store.search(queries[:50], 10), exact(store, queries[:50], 10)) > 0.95


def test_a_structure_is_made_anew_when_the_rows_or_the_wish_changed(store):
    assert not store.refresh() and not store.refresh('flat') and store.structure is None
    assert store.refresh('int8') and not store.refresh() and not store.refresh('int8')
    store.add(rows(100, seed=2), items(100, COUNT))
    assert not store.refresh()
    store.delete(range(200))
    assert store.refresh() and (store.structure.kind, store.structure.rows) == ('int8', COUNT - 100)
    assert store.refresh('binary') and store.structure.kind == 'binary'
    done = []
    store.build('int8', progress=done.append)
    assert done[-1] == COUNT - 100
    assert store.build('flat') is None and store.structure is None
    assert [structure_for(count) for count in (10, 100_000, 5_000_000)] == ['flat', 'hnsw', 'ivfpq']
    with pytest.raises(ValueError, match="structure='hsnw' is unknown; there are auto, flat, hnsw, ivfpq"):
        store.build('hsnw')
    with pytest.raises(ValueError, match='recall=0 must be above 0'):
        store.build(recall=0)


def test_a_reader_goes_over_to_a_new_structure(store):
    with FaissStore.open(store.folder) as reader:
        assert reader.structure is None
        store.build('int8')
        assert reader.structure.kind == 'int8'
        store.build('binary')
        assert reader.structure.kind == 'binary'
        with pytest.raises(PermissionError, match='opened to read'):
            reader.build('int8')


def damages(folder, other):
    file = folder / 'structure.faiss'
    whole = file.read_bytes()
    yield whole[:-50], 'was cut or changed'
    yield whole[:300] + bytes([whole[300] ^ 1]) + whole[301:], 'was cut or changed'
    yield b'x' * 100, 'is no search structure'
    yield b'', 'is no search structure'
    yield other, 'belongs to another store'


def test_a_damaged_structure_is_left_aside_with_a_warning_and_made_anew(store, tmp_path, caplog):
    with FaissStore.open(tmp_path / 'other', DIMENSIONS, 'model', write=True) as other:
        other.add(rows(COUNT), items(COUNT))
        other.build('int8')
    store.build('int8')
    queries = rows(5, seed=1)
    for data, message in damages(store.folder, (tmp_path / 'other/structure.faiss').read_bytes()):
        (store.folder / 'structure.faiss').write_bytes(data)
        caplog.clear()
        with FaissStore.open(store.folder) as reader, caplog.at_level(logging.WARNING, 'mmdml'):
            for _ in range(2):
                np.testing.assert_array_equal(reader.search(queries, 5).ids, exact(store, queries, 5).ids)
        assert [message in record.getMessage() for record in caplog.records] == [True]
    assert store.refresh('int8') and store.structure.kind == 'int8'


def test_a_structure_of_a_later_state_is_left_aside_when_a_copy_of_the_store_is_put_back(store, tmp_path, caplog):
    folder, copy = store.folder, tmp_path / 'copy'
    store.close()
    shutil.copytree(folder, copy)
    with FaissStore.open(folder, write=True) as later:
        later.add(rows(500, seed=2), items(500, COUNT))
        later.build('hnsw')
    shutil.copytree(copy, folder, dirs_exist_ok=True)
    new = rows(600, seed=3)
    for start, stop in ((0, 400), (400, 600)):  # fewer rows than the structure has, and more
        with FaissStore.open(folder, write=True) as restored, caplog.at_level(logging.WARNING, 'mmdml'):
            ids = restored.add(new[start:stop], items(stop - start, COUNT + start))
            assert restored.search(new[start:stop], 1).ids[:, 0].tolist() == ids.tolist()
    assert ['later state of the store' in record.getMessage() for record in caplog.records] == [True, True]


def test_a_full_disk_leaves_the_structure_that_was_there(store):
    facts = store.build('int8')
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(OSError, match='File too large'):
            store.build('hnsw')
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert store.structure == facts
    assert sorted(path.name for path in store.folder.iterdir() if path.name.startswith('.')) == []
