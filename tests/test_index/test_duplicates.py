"""Pictures that are in a store twice, and those that two stores share."""

import numpy as np
import pytest

from mmdml.index import Item, LocalStore
from mmdml.index.duplicates import groups, shared_pictures


def at(*degrees):
    angles = np.deg2rad(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], 1)


@pytest.fixture
def stores(tmp_path):
    """Two stores of directions in the plane; a content hash is a letter."""
    found = []
    for name, rows in (
        ('one', [(0, 'a'), (1, 'b'), (3, 'c'), (90, 'd'), (180, 'a'), (270, 'e'), (200, '')]),
        ('two', [(91, 'x'), (45, 'e'), (135, 'y'), (201, '')]),
    ):
        store = LocalStore.open(tmp_path / name, 2, 'planar', write=True)
        degrees, hashes = zip(*rows, strict=True)
        store.add(at(*degrees), [Item(f'{name}{n}.jpg', '', 1, each) for n, each in enumerate(hashes)])
        found.append(store)
    yield found
    for store in found:
        store.close()


def ids(pairs):
    return [(pair.first.id, pair.second.id, pair.same) for pair in pairs]


def test_pairs_have_the_same_content_or_a_score_above_the_limit(stores):
    one, _ = stores
    pairs = shared_pictures(one, one, near=np.cos(np.deg2rad(2.5)))
    assert ids(pairs) == [(0, 4, True), (0, 1, False), (1, 2, False)]  # 0 and 2 are 3 degrees apart
    assert [pair.score for pair in pairs] == pytest.approx([-1, np.cos(np.deg2rad(1)), np.cos(np.deg2rad(2))], abs=1e-6)
    assert [[row.id for row in group] for group in groups(pairs)] == [[0, 1, 2, 4]]
    assert ids(shared_pictures(one, one, near=1)) == [(0, 4, True)]
    one.delete([0])
    assert ids(shared_pictures(one, one, near=1)) == []


def test_two_stores_share_pictures_by_content_and_by_vector(stores):
    one, two = stores
    done = []
    pairs = shared_pictures(one, two, near=0.999, progress=done.append)
    assert ids(pairs) == [(5, 1, True), (3, 0, False), (6, 3, False)]
    assert done == [7]


def test_groups_join_whatever_the_order_of_the_pairs(tmp_path):
    with LocalStore.open(tmp_path, 2, 'planar', write=True) as store:
        store.add(at(0, 1, 2, 3, 90, 91, 200), [Item(str(n)) for n in range(7)])
        pairs = shared_pictures(store, store, near=np.cos(np.deg2rad(1.5)))
    for order in (pairs, pairs[::-1], [pairs[0], pairs[2], pairs[1], *pairs[3:]]):
        assert [[row.id for row in group] for group in groups(order)] == [[0, 1, 2, 3], [4, 5]]


def test_stores_of_two_models_and_a_limit_of_nothing_are_refused(stores, tmp_path):
    with LocalStore.open(tmp_path / 'third', 2, 'another', write=True) as third:
        with pytest.raises(ValueError, match='vectors of two models'):
            shared_pictures(stores[0], third, near=0.9)
    with pytest.raises(ValueError, match='near=0 must be above 0'):
        shared_pictures(stores[0], stores[0], near=0)
