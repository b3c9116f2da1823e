"""Maps of galleries."""

import httpx2
import numpy as np
import pytest

from mmdml.web.map_points import pca


def test_pca_keeps_the_two_directions_of_most_variance():
    random = np.random.default_rng(0)
    flat = random.normal(size=(50, 2)) * [3, 1]
    turned = flat @ np.linalg.qr(random.normal(size=(8, 8)))[0][:2] + 7
    found = pca(turned)
    assert np.linalg.norm(found[:, None] - found, axis=-1) == pytest.approx(
        np.linalg.norm(flat[:, None] - flat, axis=-1)
    )
    assert found[:, 0].std() > found[:, 1].std()


def test_a_map_has_a_point_for_each_row_with_its_label(server):
    found = httpx2.get(f'{server}/api/stores/toys/map').json()
    ids, x, y, labels = zip(*found['points'], strict=True)
    assert ids == tuple(range(24)) and (min(x), max(x)) == (0, 1) and 0 <= min(y) < max(y) <= 1
    assert [found['labels'][number] for number in labels[4:8]] == ['class 5'] * 4
    answer = httpx2.get(f'{server}/api/stores/toys/map?method=other')
    assert answer.status_code == 400 and 'must be one of pca' in answer.json()['error']
