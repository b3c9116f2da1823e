"""Maps of galleries."""

import httpx2
import numpy as np
from serving import serving

from mmdml.index import Item, LocalStore
from mmdml.web import Gallery, create_app


def test_a_map_has_a_point_for_each_row_with_its_label(server):
    found = httpx2.get(f'{server}/api/stores/toys/map').json()
    ids, x, y, labels = zip(*found['points'], strict=True)
    assert ids == tuple(range(24)) and (min(x), max(x)) == (0, 1) and 0 <= min(y) < max(y) <= 1
    assert [found['labels'][number] for number in labels[4:8]] == ['class 5'] * 4
    answer = httpx2.get(f'{server}/api/stores/toys/map?method=other')
    assert answer.status_code == 400 and 'must be one of pca' in answer.json()['error']


def test_two_pictures_make_no_map(embed, tmp_path):
    with LocalStore.open(tmp_path / 'store', embed.dimensions, embed.model_hash, write=True) as store:
        store.add(np.eye(embed.dimensions)[:2], [Item('a.jpg'), Item('b.jpg')])
        with serving(create_app([Gallery('two', store, embed)], tmp_path / 'marks.db')) as server:
            answer = httpx2.get(f'{server}/api/stores/two/map')
            assert answer.status_code == 400 and 'a map needs 3 or more' in answer.json()['error']
            # Neither is an empty label a label, nor a file that never was a picture.
            assert httpx2.get(f'{server}/api/stores/two/labels').json() == {'labels': []}
            assert 'no label' in httpx2.get(f'{server}/?row=two:0').text
            assert httpx2.get(f'{server}/pictures/two/0').headers['content-type'] == 'image/svg+xml'
