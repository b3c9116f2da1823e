"""The gallery that comes with mmdml becomes a store once, and is there at the next start."""

import csv
import shutil

import numpy as np
import pytest
from click.testing import CliRunner

import mmdml.web
from mmdml.apis import ImageEmbeddingInferencer, get_model
from mmdml.apis.demo_gallery import DEMO_GALLERY, open_demo_store
from mmdml.cli.main import main
from mmdml.index import LocalStore


@pytest.fixture(scope='module')
def embed():
    sizes = dict(backbone=dict(channels=8), neck=dict(in_channels=8, embed_dim=6))
    pipeline = [
        dict(type='LoadImageFromFile', color_type='grayscale'),
        dict(type='mmpretrain.Resize', scale=(28, 28)),
        dict(type='mmpretrain.PackInputs'),
    ]
    model = get_model('ms_conv4_omniglot', False, **sizes)
    return ImageEmbeddingInferencer(model, pipeline=pipeline, device='cpu', progress=False, batch_size=64)


@pytest.fixture(scope='module')
def cache(embed, tmp_path_factory):
    folder = tmp_path_factory.mktemp('cache')
    open_demo_store(embed, folder).close()
    return folder


def test_the_store_has_every_picture_with_its_label_and_metadata(embed, cache):
    with open(DEMO_GALLERY / 'gallery.csv', newline='') as file:
        listed = {row['path']: row for row in csv.DictReader(file)}
    with open_demo_store(embed, cache) as store:
        rows = {row.item.path.removeprefix(f'{DEMO_GALLERY}/'): row.item for row in store.rows()}
        assert store.values('aisle') == {'Packages': 228, 'Vegetables': 264}
        assert len(store.values('label')) == 41 and set(store.values('label').values()) == {12}
    assert rows.keys() == listed.keys() and len(rows) == 492
    for path, row in listed.items():
        assert rows[path].label == row['label'] == path.split('/')[0]
        assert rows[path].metadata == {'kind': row['kind'], 'aisle': row['aisle']}


def test_the_gallery_is_small_and_keeps_its_license():
    assert sum(file.stat().st_size for file in DEMO_GALLERY.rglob('*') if file.is_file()) < 3_000_000
    assert 'Copyright (c) 2019 Marcus Klasson' in (DEMO_GALLERY / 'LICENSE').read_text()


def test_a_second_start_embeds_nothing_and_a_store_that_was_cut_short_is_completed(embed, cache, monkeypatch):
    embedded = []
    stream = embed.stream
    monkeypatch.setattr(embed, 'stream', lambda paths: embedded.extend(paths) or stream(paths))
    open_demo_store(embed, cache).close()
    assert embedded == []
    (folder,) = cache.iterdir()
    with LocalStore.open(folder, write=True) as store:
        store.delete(range(5))
    with open_demo_store(embed, cache) as store:
        assert len(embedded) == 5 and store.count() == 492
    shutil.rmtree(folder)


def test_the_embeddings_that_come_with_the_gallery_are_those_of_the_default_model(tmp_path, monkeypatch):
    default = ImageEmbeddingInferencer(device='cpu', progress=False)
    monkeypatch.setattr(
        default, 'stream', lambda paths: pytest.fail('the model changed: run python -m mmdml.apis.demo_gallery')
    )
    with open_demo_store(default, tmp_path) as store:
        assert store.count() == 492
        rows = list(store.rows())[::200]
        kept = store.vectors([row.id for row in rows])
    monkeypatch.undo()
    np.testing.assert_allclose(default([row.item.path for row in rows]).embeddings, kept, atol=2e-3)


def test_the_command_opens_the_page_of_the_gallery(embed, tmp_path, monkeypatch):
    served = []
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    monkeypatch.setattr('mmdml.apis.ImageEmbeddingInferencer', lambda model, device: embed, raising=False)
    monkeypatch.setattr(
        mmdml.web, 'serve', lambda galleries, **options: served.append((galleries[0].store.count(), options)), False
    )
    done = CliRunner().invoke(main, ['demo', '--no-open', '--port', '9123'])
    assert done.exit_code == 0, done.output
    assert served == [(492, dict(port=9123, open_browser=False))]
    assert [path.parent.name for path in tmp_path.glob('mmdml/demo-*')] == ['mmdml']
