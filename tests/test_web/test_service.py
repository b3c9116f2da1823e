"""What is kept, pictures whose files are gone, and many users at once."""

import os
import shutil
import statistics
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor

import cv2
import httpx2
import numpy as np
import pytest
from serving import serving

from mmdml.apis import update_gallery
from mmdml.index import LocalStore
from mmdml.web import Gallery, create_app
from mmdml.web.galleries import unused_name
from mmdml.web.marks import Mark, Marks
from mmdml.web.recent import Recent


def test_pictures_that_are_gone_changed_or_no_files_have_a_placeholder(embed, color_pictures, tmp_path):
    pictures = tmp_path / 'pictures'
    shutil.copytree(color_pictures, pictures)
    with LocalStore.open(tmp_path / 'store', embed.dimensions, embed.model_hash, write=True) as store:
        update_gallery(store, embed, pictures)
        paths = [row.item.path for row in store.rows()]
    gone, changed, other, cut = paths[:4]
    pictures.joinpath(gone).unlink()
    cv2.imwrite(changed, np.zeros((72, 96, 3), np.uint8))
    pictures.joinpath(other).unlink()
    pictures.joinpath(other).symlink_to('/dev/zero')
    pictures.joinpath(cut).write_bytes(pictures.joinpath(cut).read_bytes()[:-100])
    galleries = [Gallery(name, LocalStore.open(tmp_path / 'store'), embed) for name in ('one', 'two')]
    with serving(create_app(galleries, tmp_path / 'marks.db')) as server:
        kinds = [httpx2.get(f'{server}/pictures/one/{id}').headers['content-type'] for id in range(5)]
        assert kinds == ['image/svg+xml'] * 4 + ['image/jpeg']
        # Also one that was shown before it was gone.
        os.unlink(paths[4])
        assert httpx2.get(f'{server}/pictures/one/4').headers['content-type'] == 'image/svg+xml'
        # Their own embeddings are there; another store's model needs the picture.
        own, elsewhere = (httpx2.get(f'{server}/?row=one:0&store={name}') for name in ('one', 'two'))
        assert 'is gone or was changed' not in own.text and own.text.count('class="card"') == 12
        assert elsewhere.status_code == 200 and 'is gone or was changed' in elsewhere.text


def test_a_store_that_is_cut_while_it_is_served_is_said_and_the_others_go_on(embed, store_folder, tmp_path):
    shutil.copytree(store_folder, tmp_path / 'store')
    galleries = [
        Gallery(name, LocalStore.open(place), embed)
        for name, place in (('cut', tmp_path / 'store'), ('whole', store_folder))
    ]
    with serving(create_app(galleries, tmp_path / 'marks.db')) as server:
        assert httpx2.get(f'{server}/?row=whole:1').text.count('class="card"') == 24
        os.truncate(tmp_path / 'store' / 'vectors.f32', 200)
        page = httpx2.get(f'{server}/?row=whole:1')
        assert 'was cut: it holds' in page.text and page.text.count('class="card"') == 12
        assert httpx2.get(f'{server}/api/stores/cut/rows/1/similar').status_code == 422
        assert httpx2.get(f'{server}/api/stores/cut/map').status_code == 422
    with pytest.raises(ValueError, match='was cut'):
        LocalStore.open(tmp_path / 'store')


@pytest.mark.slow
def test_thirty_users_at_once_get_their_own_results(server, color_pictures):
    files = sorted(color_pictures.glob('*/*.png'))
    times = []

    def use(number):
        file = files[number % len(files)]
        with httpx2.Client(base_url=server, follow_redirects=True, timeout=60) as client:
            for _ in range(3):
                start = time.perf_counter()
                found = client.post('/api/stores/toys/search', files={'picture': file.read_bytes()}, data=dict(k='1'))
                times.append(time.perf_counter() - start)
                assert found.status_code == 200, found.text
                assert found.json()['results'][0]['path'] == str(file)
                page = client.post('/queries', files={'picture': (file.name, file.read_bytes())})
                assert page.status_code == 200
                id = found.json()['results'][0]['id']
                assert client.get(f'/pictures/toys/{id}').status_code == 200
                assert client.get(f'/?row=toys:{id}').status_code == 200

    with ThreadPoolExecutor(30) as pool:
        list(pool.map(use, range(30)))
    print(f'median of {len(times)} searches by 30 users: {1000 * statistics.median(times):.0f} ms')


def test_what_was_used_last_is_kept_up_to_a_size():
    kept = Recent(10)
    for key, size in (('a', 4), ('b', 4), ('a', 5)):
        kept.put(key, key, size)
    assert kept.get('b') == 'b'
    kept.put('c', 'c', 4)
    assert (kept.get('a'), kept.get('b'), kept.get('c')) == (None, 'b', 'c')
    kept.put('huge', 'huge', 50)
    assert kept.get('huge') == 'huge' and kept.get('c') is None


def test_marks_survive_a_restart_and_keep_any_name(tmp_path):
    file = tmp_path / 'new' / 'marks.db'
    marks = Marks(file)
    odd = Mark('/store', 'uploads/a.jpg', '/p/na\udcefve\n=1+1.jpg', False)
    marks.set(odd, b'jpeg')
    marks.set(Mark('/store', '/p/1.jpg', '/p/2.jpg', True, 'oak', 'oak'))
    marks.close()
    marks = Marks(file)
    assert marks.count() == (1, 1) and marks.of('/store', odd.query) == {odd.picture: False}
    assert b'/p/na\xefve\n=1+1.jpg' in marks.to_csv()
    marks.remove('/store', odd.query, odd.picture)
    assert marks.count() == (1, 0) and b'uploads' not in marks.to_zip()
    marks.close()
    file.write_bytes(b'something else, of some length' * 100)
    with pytest.raises(ValueError, match='holds no marks'):
        Marks(file)
    with pytest.raises(ValueError, match='cannot be a file of marks: unable to open'):
        Marks(tmp_path)


def test_what_is_no_store_is_said_before_a_model_is_loaded(tmp_path):
    code = f"""
        import sys
        from mmdml.web import open_galleries, serve
        try:
            open_galleries(['{tmp_path}/none'])
        except FileNotFoundError as error:
            print(error)
        print('torch' in sys.modules)
    """
    run = subprocess.run([sys.executable, '-c', textwrap.dedent(code)], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines() == [
        f'there is no store in {tmp_path}/none; make one: mmdml index FOLDER --store {tmp_path}/none',
        'False',
    ]


def test_names_of_stores_differ_in_addresses():
    assert unused_name('my photos', ['a']) == 'my photos'
    assert unused_name('my photos', ['my-photos', 'my-photos-2']) == 'my photos 3'


def test_a_store_of_another_model_is_refused(embed, tmp_path):
    with LocalStore.open(tmp_path / 'other', embed.dimensions, 'another', write=True) as store:
        with pytest.raises(ValueError, match='another model'):
            Gallery('other', store, embed)
