"""What a Milvus store does beside the contract."""

import subprocess
import sys

import numpy as np
import pytest

from mmdml.index import Item, open_store
from mmdml.index.milvus_client import MilvusAddress, decoded, encoded
from mmdml.index.milvus_store import MilvusStore


def unit(number, seed=0):
    rows = np.random.default_rng(seed).standard_normal((number, 8))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def address(tmp_path):
    pytest.importorskip('milvus_lite', reason='milvus-lite has no package for this platform')
    return tmp_path / 'photos.db'


def test_addresses_name_files_and_collections_of_servers(tmp_path):
    assert MilvusAddress.of(tmp_path / 'a.db') == (str(tmp_path / 'a.db'), 'mmdml', True)
    assert MilvusAddress.of('https://host:19530#birds') == ('https://host:19530', 'birds', False)
    assert MilvusAddress.of('http://host:19530') == ('http://host:19530', 'mmdml', False)


@pytest.mark.parametrize('text', ['plain name', 'back\\slash \\x41', 'new\nline\0', 'caf\udce9', 'h\u00e9', ''])
def test_texts_pass_through_printable_characters(text):
    assert encoded(text).isprintable() and decoded(encoded(text)) == text


def test_the_index_follows_the_wish_and_searches_go_on(address):
    vectors = unit(300)
    with open_store(address, 8, 'model', write=True) as store:
        assert isinstance(store, MilvusStore)
        ids = store.add(vectors, [Item(f'{number}.jpg') for number in range(300)])
        assert not store.refresh() and store.refresh('hnsw') and not store.refresh('hnsw')
        np.testing.assert_array_equal(store.search(vectors[:20], k=1).ids[:, 0], ids[:20])
        with pytest.raises(ValueError, match="structure='binary' is not for a Milvus store; choose flat or hnsw"):
            store.refresh('binary')
    with open_store(address) as store:
        assert store.count() == 300
        np.testing.assert_array_equal(store.search(vectors[:20], k=1).ids[:, 0], ids[:20])


def test_what_a_kill_left_is_completed_or_made_anew(address):
    with open_store(address, 8, 'model', write=True) as store:
        store.add(unit(3), [Item(f'{number}.jpg') for number in range(3)])
        # As between the insertion of a new row of a path and the removal of the old one.
        store._remove = lambda ids: None
        new = store.add(unit(1, seed=1), [Item('1.jpg', 'new')])
        store._note(unfinished=True)
        assert store.count() == 4
    with open_store(address, write=True) as store:
        assert store.count() == 3 and [row.id for row in store.rows({'path': '1.jpg'})] == new.tolist()
        # As before the facts were written.
        store._client.drop_collection('mmdml_facts')
        store._remove([row.id for row in store.rows()])
    with open_store(address, 8, 'model', write=True) as store:
        assert store.count() == 0


def test_a_collection_of_other_things_is_left_as_it_is(address):
    with open_store(address, 8, 'model', write=True) as store:
        store.add(unit(3), [Item(f'{number}.jpg') for number in range(3)])
        store._client.drop_collection('mmdml_facts')
    with pytest.raises(ValueError, match='has a collection mmdml that is not part of a store'):
        open_store(address, 8, 'model', write=True)
    with pytest.raises(FileNotFoundError, match='there is no store in'):
        open_store(address)


@pytest.mark.slow
def test_opening_a_store_leaves_the_log_files_of_the_process_open(tmp_path):
    pytest.importorskip('milvus_lite', reason='milvus-lite has no package for this platform')
    code = (
        'import logging, sys\n'
        'from mmdml.index import open_store\n'
        "log = logging.FileHandler(sys.argv[1] + '/run.log')\n"
        "open_store(sys.argv[1] + '/photos.db', 2, 'hash', write=True).close()\n"
        'assert log.stream is not None and not log.stream.closed\n'
    )
    done = subprocess.run([sys.executable, '-c', code, str(tmp_path)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_a_condition_and_many_neighbors_lose_no_row_behind_a_graph(address):
    vectors = unit(1200)
    items = [Item(f'{number}.jpg', 'rare' if number % 60 == 0 else 'common') for number in range(1200)]
    queries = unit(30, seed=1)
    with open_store(address, 8, 'model', write=True) as store:
        store.add(vectors, items)
        exact = store.search(queries, 10, dict(label='rare')), store.search(queries, 1200)
        store.refresh('hnsw')
        found = store.search(queries, 10, dict(label='rare'))
        np.testing.assert_array_equal(found.ids, exact[0].ids)
        np.testing.assert_allclose(found.scores, exact[0].scores, atol=1e-6)
        assert (store.search(queries, 1200).ids >= 0).all()
        assert (store.search(queries, 30, dict(label='rare')).ids >= 0).sum(1).tolist() == [20] * 30
