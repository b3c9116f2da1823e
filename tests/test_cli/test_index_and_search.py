"""``mmdml index`` and ``mmdml search``: a folder becomes a store, and a picture finds its neighbors."""

import json
import shutil

import cv2
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from tiny import tiny_config

from mmdml.apis import get_model
from mmdml.cli.main import main
from mmdml.index import LocalStore


def mmdml(*arguments, status=0):
    done = CliRunner().invoke(main, [*map(str, arguments)])
    assert done.exit_code == status, done.output
    return done


@pytest.fixture(scope='module')
def model(pictures, tmp_path_factory):
    """Options that name a model."""
    folder = tmp_path_factory.mktemp('model')
    cfg = tiny_config(pictures, folder)
    torch.save({'state_dict': get_model(cfg.copy()).state_dict()}, folder / 'model.pth')
    cfg.dump(str(folder / 'tiny.py'))
    return '--model', f'{folder}/tiny.py:{folder}/model.pth', '--device', 'cpu'


@pytest.fixture
def folder(pictures, tmp_path):
    shutil.copytree(pictures, tmp_path / 'photos')
    return tmp_path / 'photos'


def test_a_folder_is_indexed_searched_changed_and_indexed_again(model, folder, tmp_path):
    store = tmp_path / 'store'
    done = mmdml('index', folder, '--store', store, *model)
    assert done.stdout.splitlines() == [
        f'{store} holds 36 pictures: 36 added',
        f'Next: mmdml search PICTURE --store {store}, or a page: mmdml serve {store}',
    ]
    assert done.stderr == ''
    shutil.rmtree(folder / 'class_0')
    cv2.imwrite(str(folder / 'class_1/0.png'), np.full((28, 28), 9, np.uint8))
    (folder / 'class_1/broken.png').write_bytes(b'<html>')
    done = mmdml('index', folder, '--store', store, '--remove', '--compact', '--json', *model)
    facts = json.loads(done.stdout)
    assert {name: facts[name] for name in ('added', 'changed', 'unchanged', 'removed', 'freed', 'rows')} == dict(
        added=0, changed=1, unchanged=32, removed=3, freed=4, rows=33
    )
    assert [each['name'] for each in facts['unreadable']] == [f'{folder}/class_1/broken.png']

    query = folder / 'class_5/2.png'
    # The store names its model.
    lines = mmdml('search', query, '--store', store, '-k', 3, '--device', 'cpu').stdout.splitlines()
    assert len(lines) == 3 and lines[0].split()[:2] == ['1.000', 'class_5'] and lines[0].endswith('class_5/2.png')
    limits = ('--where', 'label=class_2', '--where', 'label=class_3')
    found = json.loads(mmdml('search', query, '--store', store, '-k', 50, *limits, '--json', *model).stdout)
    assert {match['label'] for match in found['queries'][0]['matches']} == {'class_2', 'class_3'}
    assert len(found['queries'][0]['matches']) == 11


def test_labels_and_metadata_come_from_a_table_and_follow_it(model, folder, tmp_path, monkeypatch):
    table, store = tmp_path / 'table.csv', tmp_path / 'store'
    table.write_text('path,label,camera\nclass_1/0.png,wren,007\nclass_2/0.png,owl,008\n')
    arguments = ('index', folder, '--store', store, '--label-from', table, *model)
    mmdml(*arguments)
    table.write_text('path,label,camera\nclass_1/0.png,wren,007\nclass_2/0.png,tawny owl,008\n')
    done = mmdml(*arguments)
    assert '36 unchanged, 1 relabeled' in done.stdout
    assert done.stderr.splitlines() == ['labels: 34 pictures have no row, and so no label']
    query = ('search', folder / 'class_1/0.png', '--store', store, *model)
    found = json.loads(mmdml(*query, '--where', 'camera=008', '--json').stdout)['queries'][0]['matches']
    assert [(match['label'], match['metadata']) for match in found] == [('tawny owl', {'camera': '008'})]
    # The path that a search shows, from here, names the picture as the absolute one of the store does.
    monkeypatch.chdir(tmp_path)
    for path in ('photos/class_2/0.png', f'{folder}/class_2/0.png'):
        found = json.loads(mmdml(*query, '--where', f'path={path}', '--json').stdout)['queries'][0]['matches']
        assert [match['path'] for match in found] == [f'{folder}/class_2/0.png']
    with LocalStore.open(store) as opened:
        assert opened.values('label') == {'': 34, 'wren': 1, 'tawny owl': 1}
    assert mmdml(*query, '--where', 'camera=9').stdout == 'no picture of the store fits\n'


def test_rows_and_pictures_without_each_other_are_counted(model, folder, tmp_path):
    table = tmp_path / 'table.csv'
    table.write_text('path,label\nclass_1/0.png,wren\nclass_1/00.png,wren\nclass_9/0.png,owl\n')
    arguments = ('index', folder, '--store', tmp_path / 'store', '--label-from', table, *model)
    assert mmdml(*arguments).stderr.splitlines()[-2:] == [
        'labels: 2 rows name no picture of the folder, the first class_1/00.png',
        'labels: 35 pictures have no row, and so no label',
    ]
    facts = json.loads(mmdml(*arguments, '--json').stdout)
    assert (facts['absent'], facts['unlisted']) == (['class_1/00.png', 'class_9/0.png'], 35)
    facts = json.loads(mmdml('index', folder, '--store', tmp_path / 'folders', '--json', *model).stdout)
    assert (facts['absent'], facts['unlisted']) == ([], 0)


def test_duplicates_are_listed_in_groups_and_leaks_between_a_folder_and_a_store_in_pairs(model, folder, tmp_path):
    shutil.copy(folder / 'class_0/0.png', folder / 'class_1/copy.png')
    store = tmp_path / 'store'
    mmdml('index', folder, '--store', store, *model)
    lines = mmdml('duplicates', store, '--near', 1).stdout.splitlines()
    assert lines[0] == '2 alike, with 2 labels:' and lines[-1] == 'groups: 1; pictures more than one of each: 1'
    assert [line.split() for line in lines[1:3]] == [
        [f'{folder}/class_0/0.png', 'class_0'],
        [f'{folder}/class_1/copy.png', 'class_1'],
    ]
    (tmp_path / 'test').mkdir()
    shutil.copy(folder / 'class_3/1.png', tmp_path / 'test/query.png')
    found = json.loads(mmdml('duplicates', tmp_path / 'test', store, '--near', 1, '--json', *model).stdout)
    assert [(pair['first']['path'], pair['second']['path'], pair['same']) for pair in found] == [
        (f'{tmp_path}/test/query.png', f'{folder}/class_3/1.png', True)
    ]
    for same in (store, f'{store}/'):
        error = mmdml('duplicates', store, same, status=1).stderr
        assert error.endswith('are one place: name it once for what it has twice\n')


def test_a_table_with_a_column_of_the_store_is_refused_before_a_store_is_made(model, folder, tmp_path):
    table = tmp_path / 'table.csv'
    for column in ('size', 'content_hash'):
        table.write_text(f'path,label,{column}\nclass_1/0.png,wren,7\n')
        error = mmdml('index', folder, '--store', tmp_path / 'store', '--label-from', table, *model, status=1).stderr
        assert error.startswith(
            f"error: {table} has a column '{column}', which rows of a store have for something else"
        )
        assert not (tmp_path / 'store').exists()


def test_a_structure_that_needs_more_pictures_is_said_to(model, folder, tmp_path):
    arguments = ('index', folder, '--store', tmp_path / 'store', *model)
    assert mmdml(*arguments, '--structure', 'flat').stderr == ''
    note = mmdml(*arguments, '--structure', 'hnsw').stderr
    assert note.startswith('--structure hnsw: made of 256 pictures or more; searches compare all of these 36')


def test_an_address_that_ends_in_db_is_a_milvus_store(model, folder, tmp_path):
    pytest.importorskip('milvus_lite', reason='milvus-lite has no package for this platform')
    address = tmp_path / 'photos.db'
    for outcome in ('36 added', '36 unchanged'):
        done = mmdml('index', folder, '--store', address, *model)
        assert done.stdout.splitlines()[0] == f'{address} holds 36 pictures: {outcome}' and done.stderr == ''
    assert 'Next: ' not in done.stdout
    lines = mmdml('search', folder / 'class_5/2.png', '--store', address, '-k', 1, *model).stdout.splitlines()
    assert [line.split()[:2] for line in lines] == [['1.000', 'class_5']]
    error = mmdml('index', folder, '--store', address, '--structure', 'int8', *model, status=1).stderr
    assert error.endswith("error: structure='int8' is not for a Milvus store; choose flat or hnsw\n")


def test_a_folder_that_is_not_there_or_empty_leaves_no_store_behind(model, folder, tmp_path):
    (tmp_path / 'empty').mkdir()
    for name, message in (('phtos', 'there is no folder'), ('empty', 'there is no picture in')):
        assert message in mmdml('index', tmp_path / name, '--store', tmp_path / 'store', status=1).stderr
        assert not (tmp_path / 'store').exists()
    assert '36 added' in mmdml('index', folder, '--store', tmp_path / 'store', *model).output


def test_files_that_are_no_pictures_by_their_names_are_counted_with_an_example(model, folder, tmp_path):
    for name in ('class_0/IMG_1.HEIC', 'class_1/raw.dng', 'class_1/.hidden', 'class_1/Thumbs.db'):
        (folder / name).write_bytes(b'-')
    note = f'warning: 2 files in {folder} are left out: by their names they are no pictures that OpenCV reads '
    note += '(.heic 1, .dng 1), e.g. class_0/IMG_1.HEIC\n'
    store = tmp_path / 'store'
    assert note in mmdml('index', folder, '--store', store, *model).stderr
    facts = json.loads(mmdml('index', folder, '--store', store, '--json', *model).stdout)
    assert facts['left_out'] == ['class_0/IMG_1.HEIC', 'class_1/raw.dng']
    assert note in mmdml('embed', folder, '--out', tmp_path / 'out', *model).stderr
    assert note in mmdml('duplicates', folder, store, '--near', 1, *model).stderr
    (tmp_path / 'raw').mkdir()
    shutil.copy(folder / 'class_1/raw.dng', tmp_path / 'raw')
    error = mmdml('index', tmp_path / 'raw', '--store', tmp_path / 'none', *model, status=1).stderr
    assert 'there is no picture in' in error and '(.dng 1), e.g. raw.dng' in error


def test_mistakes_end_in_a_line_with_the_remedy(model, folder, tmp_path):
    store = tmp_path / 'store'
    mmdml('index', folder, '--store', store, *model)
    (folder / 'page.jpg').write_text('<html>')
    elsewhere = tmp_path / 'elsewhere.csv'
    elsewhere.write_text('path,label\nphotos/class_1/0.png,wren\n')
    for arguments, message in (
        (('search', folder / 'none.jpg', *model), 'there is no file or folder'),
        (('search', folder / 'page.jpg', *model), 'page.jpg cannot be searched by: '),
        (
            ('search', folder / 'class_1/0.png', '--where', 'lable=a', *model),
            "names the column 'lable'; there are path",
        ),
        (('search', folder / 'class_1/0.png', '--where', 'label', *model), 'must be like label=beech'),
        (('index', tmp_path / 'nowhere', *model), 'there is no folder'),
        (('index', folder, *model, '--device', 'abacus'), "device 'abacus' cannot be used"),
        (('index', folder, '--label-from', 'none.csv', *model), 'finds no list'),
        (('index', folder, '--label-from', elsewhere, *model), 'none of the 1 pictures in '),
    ):
        error = mmdml(*arguments, '--store', store, status=1).stderr
        assert error.count('\n') == 1 and error.startswith('error: ') and message in error, error
    error = mmdml('search', folder / 'class_1/0.png', '--store', folder, *model, status=1).stderr
    assert error == f'error: there is no store in {folder}; make one: mmdml index {folder} --store {folder}.store\n'
    (store / 'vectors.f32').write_bytes(b'short')
    assert 'the store is damaged' in mmdml('search', folder / 'page.jpg', '--store', store, *model, status=1).stderr
