"""A store follows a folder: what is new or changed is embedded, the rest is not."""

import os
import shutil

import cv2
import numpy as np
import pytest

from mmdml.apis import ImageEmbeddingInferencer, get_model, update_gallery
from mmdml.index import LocalStore

SIZES = dict(backbone=dict(channels=8), neck=dict(in_channels=8, embed_dim=6))
PIPELINE = [dict(type='LoadImageFromFile', color_type='grayscale'), dict(type='mmpretrain.PackInputs')]


@pytest.fixture(scope='module')
def embed():
    model = get_model('ms_conv4_omniglot', False, **SIZES)
    return ImageEmbeddingInferencer(model, pipeline=PIPELINE, device='cpu', batch_size=8, progress=False)


@pytest.fixture
def folder(pictures, tmp_path):
    shutil.copytree(pictures, tmp_path / 'photos')
    return tmp_path / 'photos'


@pytest.fixture
def store(embed, tmp_path):
    with LocalStore.open(tmp_path / 'store', embed.dimensions, embed.model_hash, write=True) as store:
        yield store


def counts(update):
    return update.added, update.changed, update.unchanged, update.removed, len(update.unreadable)


def vectors_by_path(store):
    rows = list(store.rows())
    return dict(zip([row.item.path for row in rows], store.vectors([row.id for row in rows]), strict=True))


def test_only_new_and_changed_pictures_are_embedded(embed, store, folder):
    assert counts(update_gallery(store, embed, folder)) == (36, 0, 0, 0, 0)
    ids = {row.item.path: row.id for row in store.rows()}
    assert counts(update_gallery(store, embed, folder)) == (0, 0, 36, 0, 0)
    assert {row.item.path: row.id for row in store.rows()} == ids

    changed, touched, gone = (folder / f'class_{label}/0.png' for label in (1, 2, 3))
    cv2.imwrite(str(changed), np.full((28, 28), 99, np.uint8))
    os.utime(touched, (0, 0))  # the same bytes at another time
    gone.unlink()
    (folder / 'class_8').mkdir()
    cv2.imwrite(str(folder / 'class_8/new.png'), np.full((28, 28), 200, np.uint8))
    assert counts(update_gallery(store, embed, folder)) == (1, 1, 34, 0, 0)
    assert {path for path, id in ids.items() if store.get([id]) == [None]} == {str(changed)}
    assert store.count() == 37  # the one that is gone stays until removal is wanted
    assert counts(update_gallery(store, embed, folder, remove=True)) == (0, 0, 36, 1, 0)

    whole = embed(folder)
    assert vectors_by_path(store).keys() == set(whole.names)
    for name, vector in zip(whole.names, whole.embeddings, strict=True):
        np.testing.assert_allclose(vectors_by_path(store)[name], vector, atol=1e-6)


def test_rows_have_the_class_folder_as_label_and_the_size_of_the_file(embed, store, folder):
    shutil.move(folder / 'class_0/0.png', folder / 'loose.png')
    update_gallery(store, embed, folder)
    for row in store.rows():
        inside = os.path.relpath(row.item.path, folder)
        assert row.item.label == ('' if inside == 'loose.png' else inside.split('/')[0])
        assert row.item.size == os.path.getsize(row.item.path) and os.path.isabs(row.item.path)
    assert store.count({'label': 'class_2'}) == 5 and store.count({'label': ''}) == 1


def test_a_picture_that_became_unreadable_is_reported_and_its_row_deleted(embed, store, folder):
    update_gallery(store, embed, folder)
    broken = folder / 'class_0/1.png'
    broken.write_bytes(broken.read_bytes()[:40])
    update = update_gallery(store, embed, folder)
    assert counts(update) == (0, 0, 35, 0, 1) and update.unreadable[0].name == str(broken)
    assert store.count() == 35 and store.count({'path': str(broken)}) == 0


def test_a_pipe_and_a_broken_link_are_reported_and_the_others_embedded(embed, store, folder):
    os.mkfifo(folder / 'class_0/pipe.png')
    (folder / 'class_0/link.png').symlink_to('nowhere')
    update = update_gallery(store, embed, folder)
    assert counts(update) == (36, 0, 0, 0, 2)
    link, pipe = update.unreadable
    assert 'No such file' in link.reason and 'is a pipe' in pipe.reason


def test_pictures_of_other_folders_stay_when_gone_ones_are_removed(embed, store, folder, tmp_path):
    shutil.copytree(folder / 'class_0', tmp_path / 'photos 2/class_0')
    update_gallery(store, embed, tmp_path / 'photos 2', describe=lambda path: ('second', {}))
    update_gallery(store, embed, folder)
    shutil.rmtree(tmp_path / 'photos 2')
    assert update_gallery(store, embed, folder, remove=True).removed == 0
    assert store.count({'label': 'second'}) == 3


def test_an_update_that_was_interrupted_goes_on_after_its_last_batch(embed, store, folder, monkeypatch):
    add, calls = store.add, []

    def add_twice(vectors, items):
        if len(calls) == 2:
            raise KeyboardInterrupt
        calls.append(items)
        return add(vectors, items)

    monkeypatch.setattr(store, 'add', add_twice)
    with pytest.raises(KeyboardInterrupt):
        update_gallery(store, embed, folder)
    monkeypatch.undo()
    assert store.count() == 16
    assert counts(update_gallery(store, embed, folder)) == (20, 0, 16, 0, 0)


def test_another_model_and_a_missing_folder_are_refused(embed, store, folder, tmp_path):
    other = ImageEmbeddingInferencer(get_model('ms_conv4_omniglot', False, **SIZES), pipeline=PIPELINE, progress=False)
    with pytest.raises(ValueError, match='another model or pre-processing'):
        update_gallery(store, other, folder)
    with pytest.raises(FileNotFoundError, match='there is no folder'):
        update_gallery(store, embed, tmp_path / 'nowhere')
    assert store.count() == 0
