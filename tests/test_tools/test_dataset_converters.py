import hashlib
import importlib.util
import inspect
import io
import os
import re
import stat
import struct
import subprocess
import sys
import tarfile
import threading
import zipfile
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.io import savemat

from mmdml import datasets
from mmdml.datasets.preparation import archives, download, prepare
from mmdml.datasets.preparation.archives import ArchiveError
from mmdml.datasets.preparation.prepare import OfficialFile
from mmdml.datasets.preparation.recipes import RECIPES
from mmdml.registry import DATASETS
from mmdml.utils.progress import ProgressLine, bytes_as_text

ROOT = Path(__file__).parents[2]
COMMAND = ROOT / 'tools/dataset_converters/prepare.py'
spec = importlib.util.spec_from_file_location('prepare_tool', COMMAND)
prepare_tool = importlib.util.module_from_spec(spec)
spec.loader.exec_module(prepare_tool)
# Omniglot has its tests in test_omniglot.py: nobody has to lay it out.
NAMES = sorted(set(RECIPES) - {'Omniglot'})
PICTURE = cv2.imencode('.jpg', np.full((4, 4, 3), 120, np.uint8))[1].tobytes()


def matlab(**variables):
    file = io.BytesIO()
    savemat(file, variables)
    return file.getvalue()


def cells(values):
    array = np.empty((1, len(values)), dtype=object)
    array[0] = values
    return array


def lines(rows):
    return ''.join(f'{row}\n' for row in rows).encode()


def write_tar(path, members, mode='w:gz'):
    with tarfile.open(path, mode) as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


def write_zip(path, members):
    with zipfile.ZipFile(path, 'w') as archive:
        for name, data in members.items():
            archive.writestr(name, data)


# ---- the official files, each with the least that its class loads ----------------------------------------------------


def files_of_CUB200(num_classes=200):
    members = {f'images/{i:03d}.Bird/{i}.jpg': PICTURE for i in (1, num_classes)}
    members['images.txt'] = lines(['1 001.Bird/1.jpg', f'2 {num_classes:03d}.Bird/{num_classes}.jpg'])
    members['image_class_labels.txt'] = lines(['1 1', f'2 {num_classes}'])
    members['classes.txt'] = lines(f'{i} {i:03d}.Bird' for i in range(1, num_classes + 1))
    folder = {f'CUB_200_2011/{name}': data for name, data in members.items()}
    return {'CUB_200_2011.tgz': {'attributes.txt': b'beside the folder', **folder}}


def files_of_Cars196():
    annotations = np.empty((1, 2), dtype=[('relative_im_path', object), ('class', object)])
    annotations[0] = [('car_ims/000001.jpg', 1), ('car_ims/000002.jpg', 99)]
    names = cells([f'Make Model {i}' for i in range(196)])
    return {
        'car_ims.tgz': {f'car_ims/00000{i}.jpg': PICTURE for i in (1, 2)},
        'cars_annos.mat': matlab(annotations=annotations, class_names=names),
    }


def files_of_Cars196_devkit():
    def annotations(class_id):
        array = np.empty((1, 1), dtype=[('fname', object), ('class', object)])
        array[0] = [('00001.jpg', class_id)]
        return matlab(annotations=array)

    devkit = {'devkit/cars_meta.mat': matlab(class_names=cells([f'Make Model {i}' for i in range(196)]))}
    return {
        'cars_train.tgz': {'cars_train/00001.jpg': PICTURE},
        'cars_test.tgz': {'cars_test/00001.jpg': PICTURE},
        'car_devkit.tgz': {**devkit, 'devkit/cars_train_annos.mat': annotations(1)},
        'cars_test_annos_withlabels.mat': annotations(99),
    }


def files_of_StanfordOnlineProducts():
    header = 'image_id class_id super_class_id path'
    members = {'Ebay_info.txt': b'', 'bicycle_final/1_0.JPG': PICTURE, 'bicycle_final/2_0.JPG': PICTURE}
    members['Ebay_train.txt'] = lines([header, '1 1 1 bicycle_final/1_0.JPG'])
    members['Ebay_test.txt'] = lines([header, '2 11319 1 bicycle_final/2_0.JPG'])
    folder = {f'Stanford_Online_Products/{name}': data for name, data in members.items()}
    return {'Stanford_Online_Products.zip': {**folder, '__MACOSX/._x': b'left out'}}


def files_of_InShop():
    rows = [f'img/MEN/id_{i:08d}/01_1_front.jpg id_{i:08d} {part}' for i, part in enumerate(('train', 'query'), 1)]
    rows.append('img/MEN/id_00000002/01_2_side.jpg id_00000002 gallery')
    return {
        'Img/img.zip': {row.split()[0]: PICTURE for row in rows},
        'Eval/list_eval_partition.txt': lines(['3', 'image_name item_id evaluation_status', *rows]),
    }


def files_of_VehicleID():
    tests = {f'train_test_split/test_list_{size}.txt': b'0000002 2\n' for size in (800, 1600, 2400, 13164)}
    members = {'image/0000001.jpg': PICTURE, 'image/0000002.jpg': PICTURE, **tests}
    members['train_test_split/train_list.txt'] = b'0000001 1\n'
    return {'VehicleID_V1.0.zip': {f'VehicleID_V1.0/{name}': data for name, data in members.items()}}


def files_of_OxfordFlowers102():
    images = {f'jpg/image_0000{i}.jpg': PICTURE for i in (1, 2)}
    return {'102flowers.tgz': images, 'imagelabels.mat': matlab(labels=np.array([[1, 52]]))}


def files_of_OxfordPets():
    rows = [f'breed_{i}_1 {i} 1 1' for i in range(1, 38)]
    return {
        'images.tar.gz': {f'images/breed_{i}_1.jpg': PICTURE for i in range(1, 38)},
        'annotations.tar.gz': {'./annotations/list.txt': lines(['#Image CLASS-ID SPECIES BREED ID', *rows])},
    }


def files_of_FGVCAircraft():
    members = {'images/1.jpg': PICTURE, 'images/2.jpg': PICTURE}
    members['variants.txt'] = lines(f'variant {i}' for i in range(1, 101))
    members['images_variant_trainval.txt'] = b'1 variant 1\n'
    members['images_variant_test.txt'] = b'2 variant 100\n'
    return {'fgvc-aircraft-2013b.tar.gz': {f'fgvc-aircraft-2013b/data/{k}': data for k, data in members.items()}}


def files_of_StanfordDogs():
    paths = [f'n{i:08d}-breed_{i}/n{i:08d}_1.jpg' for i in range(1, 121)]
    labels = np.arange(1.0, 121)[:, None]
    return {
        'images.tar': {f'Images/{path}': PICTURE for path in paths},
        'lists.tar': {'file_list.mat': matlab(file_list=cells(paths).T, labels=labels), 'train_list.mat': b''},
    }


def files_of_Market1501():
    names = ['bounding_box_train/0002_c1s1_000451_03.jpg', 'query/0001_c1s1_001051_00.jpg']
    names.append('bounding_box_test/0001_c2s1_000151_01.jpg')
    return {'Market-1501-v15.09.15.zip': {f'Market-1501-v15.09.15/{name}': PICTURE for name in names}}


def files_of_Food101():
    dishes = [f'dish_{i:03d}' for i in range(1, 102)]
    members = {'images/dish_001/1.jpg': PICTURE, 'images/dish_101/2.jpg': PICTURE}
    members.update({'meta/classes.txt': lines(dishes), 'meta/train.txt': b'dish_001/1\n'})
    members['meta/test.txt'] = b'dish_101/2\n'
    return {'food-101.tar.gz': {f'food-101/{name}': data for name, data in members.items()}}


def write_official(name, folder, nested=False):
    """The official files of a dataset; archives in the format that their names say."""
    for file, content in globals()[f'files_of_{name}'.replace('-', '_')]().items():
        path = folder / (file if nested else Path(file).name)
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
        elif path.suffix == '.zip':
            write_zip(path, content)
        else:
            write_tar(path, content, 'w' if path.suffix == '.tar' else 'w:gz')
    return folder


def lay_out(name, source, target, checks=False):
    return prepare.prepare(RECIPES[name], [str(source)], str(target), checks=checks)


def build(name, target, **options):
    recipe = RECIPES[name]
    return DATASETS.build(dict(type=recipe.dataset, data_root=str(target / recipe.root), **options))


# ---- tables ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('name', NAMES)
def test_recipe_agrees_with_its_data_set_class(name):
    recipe = RECIPES[name]
    dataset = DATASETS.get(recipe.dataset)
    default = inspect.signature(dataset).parameters['data_root'].default
    assert os.path.normpath(f'{recipe.target}/{recipe.root}') == default
    source = Path(inspect.getfile(dataset)).read_text()
    assert recipe.page in source
    for file in recipe.files:
        assert Path(file.name).name in source or Path(file.name).stem in source
        assert (
            file.checksum == ''
            or len(file.checksum.partition(':')[2]) == {'md5': 32, 'sha256': 64}[file.checksum.partition(':')[0]]
        )


def test_every_data_set_with_official_counts_has_a_command():
    counted = {name for name in datasets.__all__ if hasattr(getattr(datasets, name), 'COUNTS')}
    assert counted == {recipe.dataset for recipe in RECIPES.values()}


@pytest.mark.parametrize('name', NAMES)
def test_documentation_has_the_files_of_a_recipe_and_the_counts_of_its_class(name):
    page = (ROOT / 'docs/datasets.md').read_text()
    recipe = RECIPES[name]
    folder = os.path.normpath(f'{recipe.target}/{recipe.root}')
    assert re.search(rf'\| `{recipe.dataset}` \| `{folder}` \| .*`{name}`.* \|', page)
    kinds = {file.checksum.partition(':')[0] for file in recipe.files}
    assert len(kinds) == 1
    kind = {'md5': 'MD5', 'sha256': 'SHA-256', '': 'none known'}[kinds.pop()]
    row = next(line for line in page.splitlines() if line.startswith('|') and f'`{recipe.files[0].name}`' in line)
    assert all(f'`{file.name}`' in row for file in recipe.files)
    _, _, _, downloaded, checksum, _ = (cell.strip() for cell in row.split('|'))
    assert checksum.startswith(kind) and downloaded.startswith('yes') == all(file.address for file in recipe.files)
    counts = DATASETS.get(recipe.dataset).COUNTS
    assert [split for split, (_, images) in counts.items() if f'{images:,}' not in page] == []


# ---- laying out ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('name', NAMES)
def test_official_files_become_a_tree_that_the_class_loads(name, tmp_path):
    source = write_official(name, tmp_path / 'downloads')
    target = tmp_path / 'data' / 'tree'
    summary = lay_out(name, source, target)
    assert summary.startswith(f'{RECIPES[name].dataset} in {target}: ') and 'test' in summary
    for split in ('train', 'test'):
        dataset = build(name, target, split=split, pipeline=[dict(type='LoadImageFromFile')])
        assert {dataset[i]['img'].shape for i in range(len(dataset))} == {(4, 4, 3)}
    assert [path.name for path in target.parent.iterdir()] == ['tree']
    assert not list(target.rglob('__MACOSX'))


def test_files_in_their_official_folders_are_found(tmp_path):
    source = write_official('InShop', tmp_path / 'downloads', nested=True)
    lay_out('InShop', source, tmp_path / 'tree')
    assert len(build('InShop', tmp_path / 'tree', split='query')) == 1


def test_single_archive_may_be_named_itself(tmp_path):
    source = write_official('Food101', tmp_path / 'downloads') / 'food-101.tar.gz'
    source.rename(tmp_path / 'renamed')
    lay_out('Food101', tmp_path / 'renamed', tmp_path / 'tree')
    assert len(build('Food101', tmp_path / 'tree')) == 1


def test_file_in_place_of_the_folder_of_several_is_an_error(tmp_path):
    source = write_official('Cars196', tmp_path / 'downloads') / 'car_ims.tgz'
    source.rename(tmp_path / 'cars.tgz')
    with pytest.raises(ArchiveError, match=r'cars\.tgz is none of the files of Cars196: car_ims\.tgz, cars_annos\.mat'):
        lay_out('Cars196', tmp_path / 'cars.tgz', tmp_path / 'tree')


def test_counts_decide_whether_a_tree_is_complete(tmp_path, monkeypatch):
    source = write_official('Market1501', tmp_path)
    recipe = RECIPES['Market1501']
    monkeypatch.setitem(RECIPES, 'Market1501', replace(recipe, files=(replace(recipe.files[0], checksum=''),)))
    with pytest.raises(
        ArchiveError, match=r'split train .*751 classes and 12,936 images, found 1 classes and 1 images'
    ):
        lay_out('Market1501', source, tmp_path / 'tree', checks=True)
    assert sorted(os.listdir(tmp_path)) == ['Market-1501-v15.09.15.zip']
    monkeypatch.setattr(DATASETS.get('Market1501'), 'COUNTS', {'train': (1, 1), 'test': (1, 2)})
    summary = lay_out('Market1501', source, tmp_path / 'tree', checks=True)
    assert summary.endswith('train 1 classes, 1 images; test 1 classes, 2 images')


def test_listed_image_that_the_archive_lacks_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(DATASETS.get('Food101'), 'COUNTS', {'train': (1, 2), 'test': (1, 1)})
    members = files_of_Food101()['food-101.tar.gz']
    members['food-101/meta/train.txt'] = b'dish_001/1\ndish_001/77\n'
    write_tar(tmp_path / 'food-101.tar.gz', members)
    recipe = RECIPES['Food101']
    recipe = replace(recipe, files=(replace(recipe.files[0], checksum=''),))
    with pytest.raises(ArchiveError, match=r'1 listed images of Food101 .* e\.g\. images/dish_001/77\.jpg'):
        prepare.prepare(recipe, [str(tmp_path / 'food-101.tar.gz')], str(tmp_path / 'tree'))
    assert os.listdir(tmp_path) == ['food-101.tar.gz']


def test_archive_with_another_checksum_is_refused(tmp_path):
    source = write_official('StanfordOnlineProducts', tmp_path) / 'Stanford_Online_Products.zip'
    found = hashlib.sha256(source.read_bytes()).hexdigest()
    with pytest.raises(ArchiveError, match=rf'its sha256 is {found}, expected b04fa78210e69'):
        lay_out('StanfordOnlineProducts', source, tmp_path / 'tree', checks=True)
    assert not (tmp_path / 'tree').exists()
    download.check_checksum(str(source), f'sha256:{found}')


def test_copy_of_fewer_birds_is_laid_out_without_checks_only(tmp_path):
    write_tar(tmp_path / 'CUB_200_2011.tgz', files_of_CUB200(num_classes=4)['CUB_200_2011.tgz'])
    recipe = RECIPES['CUB200']
    recipe = replace(recipe, files=(replace(recipe.files[0], checksum=''),))
    arguments = recipe, [str(tmp_path)], str(tmp_path / 'tree')
    with pytest.raises(ArchiveError, match='cannot load split train of .* train_classes=100 must leave'):
        prepare.prepare(*arguments)
    assert os.listdir(tmp_path) == ['CUB_200_2011.tgz']
    summary = prepare.prepare(*arguments, checks=False)
    assert summary.endswith(
        'train 1 classes, 1 images (with train_classes=1); test 1 classes, 1 images (with train_classes=1)'
    )
    assert len(build('CUB200', tmp_path / 'tree', split='test', train_classes=2)) == 1
    assert not (tmp_path / 'tree/attributes.txt').exists()


@pytest.mark.parametrize('name', ['downloads', '.'])
def test_target_around_the_official_files_is_refused_without_advice_to_remove_them(tmp_path, name):
    target = tmp_path / 'Cars196'
    source = write_official('Cars196', target / name)
    with pytest.raises(ArchiveError, match=f'car_ims.tgz is a place in the target folder {target}: choose another'):
        lay_out('Cars196', source, target)
    assert sorted(os.listdir(source)) == ['car_ims.tgz', 'cars_annos.mat']


def test_nothing_is_downloaded_into_the_target(tmp_path):
    with serving() as (address, handler):
        recipe = recipe_from(address, b'')
        for source in ('food-101', 'food-101/food-101.tar.gz'):
            with pytest.raises(ArchiveError, match='choose another target folder'):
                prepare.prepare(recipe, [str(tmp_path / source)], str(tmp_path / 'food-101'))
        assert not handler.asked and not os.listdir(tmp_path)


def test_target_that_is_there_is_not_touched(tmp_path):
    (tmp_path / 'tree').mkdir()
    with pytest.raises(ArchiveError, match=f'{tmp_path}/tree is there already'):
        lay_out('Food101', tmp_path / 'nothing', tmp_path / 'tree')


# ---- hostile and broken archives -------------------------------------------------------------------------------------


@pytest.mark.parametrize('write', [write_tar, write_zip])
@pytest.mark.parametrize(
    'name', ['../evil', 'top/../../evil', '/tmp/evil', '..\\evil', 'top\\..\\..\\evil', 'C:evil', 'top/C:/evil']
)
@pytest.mark.parametrize('folder', ['top', ''])
def test_entry_that_points_outside_is_refused_and_nothing_is_left(tmp_path, write, name, folder):
    write(tmp_path / 'archive', {'top/a.jpg': PICTURE, name: b'evil'})
    part = OfficialFile('archive', folder=folder)
    with pytest.raises(ArchiveError, match=re.escape(f'{tmp_path}/archive holds the entry {name!r}, which points out')):
        prepare.lay_out([(part, str(tmp_path / 'archive'))], str(tmp_path / 'tree'), lambda tree: None)
    assert os.listdir(tmp_path) == ['archive'] and not Path('/tmp/evil').exists()


def test_links_and_devices_are_left_out(tmp_path):
    (tmp_path / 'outside').mkdir()
    with tarfile.open(tmp_path / 'archive', 'w') as archive:
        for name, kind in (
            ('top/link', tarfile.SYMTYPE),
            ('top/hard', tarfile.LNKTYPE),
            ('top/pipe', tarfile.FIFOTYPE),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, str(tmp_path / 'outside')
            archive.addfile(info)
        info = tarfile.TarInfo('top/link/through.txt')
        info.size, info.mode = 4, 0o4777
        archive.addfile(info, io.BytesIO(b'evil'))
    archives.unpack(str(tmp_path / 'archive'), 'top', str(tmp_path / 'tree'))
    assert not os.listdir(tmp_path / 'outside')
    assert [str(path.relative_to(tmp_path / 'tree')) for path in (tmp_path / 'tree').rglob('*')] == [
        'link',
        'link/through.txt',
    ]
    assert (tmp_path / 'tree/link/through.txt').stat().st_mode & 0o7111 == 0


def test_links_of_a_zip_are_left_out_and_files_with_modes_are_not(tmp_path):
    with zipfile.ZipFile(tmp_path / 'archive', 'w') as archive:
        for name, kind in (('top/link', stat.S_IFLNK | 0o777), ('top/a.txt', stat.S_IFREG | 0o644), ('top/b.txt', 0)):
            info = zipfile.ZipInfo(name)
            info.external_attr = kind << 16
            archive.writestr(info, '/etc/passwd')
    archives.unpack(str(tmp_path / 'archive'), 'top', str(tmp_path / 'tree'))
    assert sorted(os.listdir(tmp_path / 'tree')) == ['a.txt', 'b.txt']


def encrypted(data):
    """The bytes of a zip archive with the flag that says it is encrypted."""
    data = bytearray(data)
    for signature, offset in ((b'PK\x03\x04', 6), (b'PK\x01\x02', 8)):
        at = data.find(signature)
        struct.pack_into('<H', data, at + offset, 1)
    return bytes(data)


@pytest.mark.parametrize('write', [write_tar, write_zip])
@pytest.mark.parametrize('damage', [lambda data: data[:-60], lambda data: b'<html>moved</html>', lambda data: b''])
def test_broken_archive_leaves_nothing_behind(tmp_path, write, damage):
    path = tmp_path / 'archive'
    write(path, {'top/a.jpg': np.random.default_rng(0).bytes(5000), 'top/b.jpg': PICTURE})
    path.write_bytes(damage(path.read_bytes()))
    part = OfficialFile('archive', folder='top')
    with pytest.raises(ArchiveError, match=f'cannot unpack {path}: .*; remove it and download it again'):
        prepare.lay_out([(part, str(path))], str(tmp_path / 'tree'), lambda tree: None)
    assert os.listdir(tmp_path) == ['archive']


def test_encrypted_archive_is_an_error(tmp_path):
    write_zip(tmp_path / 'a.zip', {'top/a.jpg': PICTURE})
    (tmp_path / 'a.zip').write_bytes(encrypted((tmp_path / 'a.zip').read_bytes()))
    with pytest.raises(ArchiveError, match=r'cannot unpack .*a\.zip: .*encrypted, password required for extraction$'):
        archives.unpack(str(tmp_path / 'a.zip'), 'top', str(tmp_path / 'tree'))


def test_archive_without_the_official_folder_says_what_it_holds(tmp_path):
    write_zip(tmp_path / 'a.zip', {'other/a.jpg': PICTURE, 'top.jpg': PICTURE})
    with pytest.raises(ArchiveError, match=r'no file in a folder top: .*\(its top level: other, top\.jpg\)'):
        archives.unpack(str(tmp_path / 'a.zip'), 'top', str(tmp_path / 'tree'))


def test_this_machines_errors_do_not_blame_the_archive(tmp_path):
    write_zip(tmp_path / 'a.zip', {'top/a/b.jpg': PICTURE})
    (tmp_path / 'tree').mkdir()
    (tmp_path / 'tree/a').write_bytes(b'a file where a folder must be')
    with pytest.raises(ArchiveError) as error:
        archives.unpack(str(tmp_path / 'a.zip'), 'top', str(tmp_path / 'tree'))
    assert 'download it again' not in str(error.value) and str(tmp_path / 'tree/a') in str(error.value)


def test_extended_header_that_would_take_minutes_to_read_is_refused_at_once(tmp_path):
    info = tarfile.TarInfo('pax')
    info.type, info.size = tarfile.XHDTYPE, 1 << 20
    block = info.tobuf(tarfile.USTAR_FORMAT)
    (tmp_path / 'a.tar').write_bytes(block + b'1' * info.size + block)
    with pytest.raises(ArchiveError, match=r'extended header of 1,048,576 bytes, the limit is 16,384'):
        archives.unpack(str(tmp_path / 'a.tar'), '', str(tmp_path / 'tree'))


def test_many_extended_headers_are_refused_before_they_take_long(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, '_MAX_SQUARED_HEADER_BYTES', 3 * 900**2)
    with tarfile.open(tmp_path / 'a.tar', 'w', format=tarfile.PAX_FORMAT) as archive:
        for number in range(9):
            info = tarfile.TarInfo(f'top/{number}/{"x" * 200}/{"y" * 200}/{"z" * 200}/{"z" * 200}')
            archive.addfile(info)
    with pytest.raises(ArchiveError, match='squared lengths of the extended headers'):
        archives.unpack(str(tmp_path / 'a.tar'), '', str(tmp_path / 'tree'))


def test_an_entry_of_a_size_below_zero_is_refused_and_not_read_for_ever(tmp_path):
    info = tarfile.TarInfo('top/a.jpg')
    block = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    block[124:136] = (-512 % 256**12).to_bytes(12, 'big')  # base 256
    block[148:156] = b' ' * 8
    block[148:156] = f'{sum(block):06o}\0 '.encode()
    (tmp_path / 'a.tar').write_bytes(info.tobuf(tarfile.GNU_FORMAT) + bytes(block) + bytes(1024))
    with pytest.raises(ArchiveError, match='has an entry of -512 bytes: do not use this archive'):
        archives.unpack(str(tmp_path / 'a.tar'), '', str(tmp_path / 'tree'))


def test_sparse_file_is_refused(tmp_path):
    with tarfile.open(tmp_path / 'a.tar', 'w', format=tarfile.PAX_FORMAT) as archive:
        info = tarfile.TarInfo('top/huge')
        info.pax_headers = {'GNU.sparse.map': '0,0', 'GNU.sparse.size': str(1 << 50)}
        archive.addfile(info)
    with pytest.raises(ArchiveError, match=r"sparse file 'top/huge': do not use"):
        archives.unpack(str(tmp_path / 'a.tar'), '', str(tmp_path / 'tree'))


@pytest.mark.parametrize('write', [write_tar, write_zip])
def test_archive_that_unpacks_to_more_than_the_limit_is_refused_with_both_numbers(tmp_path, write):
    write(tmp_path / 'archive', {'top/a': b'x' * 700, 'other/b': b'x' * 700})
    archives.unpack(str(tmp_path / 'archive'), 'top', str(tmp_path / 'within'), max_bytes=20_000)
    with pytest.raises(ArchiveError, match='unpacks to 1,400 bytes or more, the limit is 1,000'):
        archives.unpack(str(tmp_path / 'archive'), 'top', str(tmp_path / 'tree'), max_bytes=1000)


def test_checksum_of_a_compressed_archive_counts(tmp_path):
    path = tmp_path / 'a.tgz'
    write_tar(path, {'top/a.txt': b'label 1'})
    data = bytearray(path.read_bytes())
    data[-8] ^= 1  # the checksum in the last eight bytes
    path.write_bytes(data)
    with pytest.raises(ArchiveError, match=f'cannot unpack {path}: CRC check failed.*download it again'):
        archives.unpack(str(path), 'top', str(tmp_path / 'tree'))


def test_folder_that_another_left_is_not_touched(tmp_path):
    source = write_official('Food101', tmp_path / 'downloads')
    kept = tmp_path / 'tree.unpacking/notes.txt'
    kept.parent.mkdir()
    kept.write_text('mine')
    lay_out('Food101', source, tmp_path / 'tree')
    assert kept.read_text() == 'mine'
    assert sorted(os.listdir(tmp_path)) == ['downloads', 'tree', 'tree.unpacking']


def test_two_commands_for_one_target_leave_one_whole_tree(tmp_path):
    source = write_official('Food101', tmp_path / 'downloads') / 'food-101.tar.gz'
    files = [(RECIPES['Food101'].files[0], str(source))]

    def meanwhile(tree):
        lay_out('Food101', source, tmp_path / 'tree')
        assert len(os.listdir(tree)) == 2

    with pytest.raises(ArchiveError, match=f'{tmp_path}/tree has appeared meanwhile'):
        prepare.lay_out(files, str(tmp_path / 'tree'), meanwhile)
    assert sorted(os.listdir(tmp_path)) == ['downloads', 'tree']
    assert len(build('Food101', tmp_path / 'tree')) == 1


def test_stopped_command_leaves_nothing_behind(tmp_path):
    source = write_official('Food101', tmp_path / 'downloads') / 'food-101.tar.gz'
    code = (
        'import runpy, time\n'
        'from mmdml.datasets.preparation import prepare\n'
        'prepare.check_tree = lambda *args: (print("unpacked", flush=True), time.sleep(60))\n'
        f'runpy.run_path({str(COMMAND)!r}, run_name="__main__")\n'
    )
    command = [sys.executable, '-c', code, 'Food101', source, tmp_path / 'tree', '--skip-checks']
    process = subprocess.Popen(list(map(str, command)), cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == 'unpacked\n'
    assert len(list(tmp_path.glob('tree.unpacking-*'))) == 1
    process.terminate()
    assert process.wait(30) != 0
    process.stdout.close()
    assert not list(tmp_path.glob('tree*'))


def test_pipe_in_place_of_an_archive_is_refused(tmp_path):
    os.mkfifo(tmp_path / 'food-101.tar.gz')
    with pytest.raises(ArchiveError, match=r'food-101\.tar\.gz is no regular file'):
        lay_out('Food101', tmp_path / 'food-101.tar.gz', tmp_path / 'tree')


# ---- download --------------------------------------------------------------------------------------------------------


class Server(BaseHTTPRequestHandler):
    """Sends ``content`` from the byte that is asked for, but breaks off after ``at_most`` bytes."""

    content = bytes(range(256)) * 40
    kind = 'application/octet-stream'
    at_most = None
    ranges = True
    sizes = True
    asked: list = []

    def do_GET(self):
        self.asked.append(self.headers.get('Range'))
        if self.path == '/missing':
            self.send_error(404)
            return
        total = len(self.content)
        start = int(self.headers['Range'][6:-1]) if self.ranges and 'Range' in self.headers else 0
        if start >= total:
            self.send_response(416)
            self.send_header('Content-Range', f'bytes */{total}')
            self.send_header('Content-Length', '0')
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        self.send_header('Content-Type', self.kind)
        if start and self.sizes:
            self.send_header('Content-Range', f'bytes {start}-{total - 1}/{total}')
        if self.sizes:
            self.send_header('Content-Length', str(total - start))
        self.end_headers()
        self.wfile.write(self.content[start:][: self.at_most])

    def log_message(self, *args):
        pass


@contextmanager
def serving(**options):
    handler = type('Handler', (Server,), dict(options, asked=[]))
    server = HTTPServer(('127.0.0.1', 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs=dict(poll_interval=0.02))
    thread.start()
    try:
        yield f'http://127.0.0.1:{server.server_port}/', handler
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_download_goes_on_after_a_broken_connection(tmp_path):
    path = tmp_path / 'new' / 'file'
    with serving(at_most=4000) as (address, handler):
        for done in (4000, 8000):
            with pytest.raises(ArchiveError, match=rf'ended after {done:,} of 10,240 bytes; run this again.*\nGET IT'):
                download.download(address, str(path), 'GET IT')
            assert not path.exists() and path.with_name('file.part').stat().st_size == done
        download.download(address, str(path), 'GET IT')
        assert handler.asked == [None, 'bytes=4000-', 'bytes=8000-']
    assert path.read_bytes() == Server.content and os.listdir(path.parent) == ['file']


def test_server_that_cannot_resume_sends_the_file_from_its_beginning(tmp_path):
    (tmp_path / 'file.part').write_bytes(b'x' * 100)
    with serving(ranges=False) as (address, _):
        download.download(address, str(tmp_path / 'file'), '')
    assert (tmp_path / 'file').read_bytes() == Server.content


@pytest.mark.parametrize('already', [0, 1000])
def test_server_that_tells_no_sizes_is_taken_at_its_word(tmp_path, already):
    if already:
        (tmp_path / 'file.part').write_bytes(Server.content[:already])
    with serving(sizes=False) as (address, _):
        download.download(address, str(tmp_path / 'file'), '')
    assert (tmp_path / 'file').read_bytes() == Server.content


@pytest.mark.parametrize(
    'answer, problem',
    [
        (dict(content=b'<html>log in</html>', kind='text/html'), 'is a web page, http://127.0.0.1:.*/'),
        (dict(content=b'<html>log in</html>' * 90, kind='text/html; charset=utf-8'), 'is a web page'),
        (dict(content=b'moved'), 'has 5 bytes, .*/file.part has 1,000 already; remove it to begin again'),
    ],
)
@pytest.mark.parametrize('archive', [True, False])
def test_what_has_come_is_kept_when_the_answer_is_not_its_rest(tmp_path, answer, problem, archive):
    part = tmp_path / 'file.part'
    part.write_bytes(Server.content[:1000])
    with serving(ranges=False, **answer) as (address, handler):
        with pytest.raises(ArchiveError, match=f'cannot download {address}: the answer {problem}.*\nGET IT'):
            download.download(address, str(tmp_path / 'file'), 'GET IT', archive=archive)
        assert handler.asked == ['bytes=1000-']
    assert os.listdir(tmp_path) == ['file.part'] and part.read_bytes() == Server.content[:1000]


def test_web_page_in_place_of_an_archive_says_what_to_get_where(tmp_path):
    with serving(content=b'<html>log in</html>', kind='text/html') as (address, _):
        recipe = recipe_from(address, b'')
        with pytest.raises(ArchiveError) as error:
            prepare.prepare(recipe, [str(tmp_path / 'food-101.tar.gz')], str(tmp_path / 'tree'), checks=False)
    assert 'the answer is a web page' in str(error.value)
    assert f'Get food-101.tar.gz from {recipe.page}, put it as {tmp_path}/food-101.tar.gz' in str(error.value)
    assert not os.listdir(tmp_path)


def test_file_that_is_no_archive_may_come_under_a_wrong_type(tmp_path):
    source = write_official('OxfordFlowers102', tmp_path / 'downloads')
    content = (source / 'imagelabels.mat').read_bytes()
    (source / 'imagelabels.mat').unlink()
    with serving(content=content, kind='text/html') as (address, _):
        images, labels = RECIPES['OxfordFlowers102'].files
        recipe = replace(RECIPES['OxfordFlowers102'], files=(images, replace(labels, address=address)))
        prepare.prepare(recipe, [str(source)], str(tmp_path / 'tree'), checks=False)
    assert (tmp_path / 'tree/imagelabels.mat').read_bytes() == content


@pytest.mark.parametrize('too_much, requests', [(0, 1), (7, 2)])
def test_part_that_is_complete_is_taken_and_one_that_is_too_long_fetched_anew(tmp_path, too_much, requests):
    (tmp_path / 'file.part').write_bytes(Server.content + b'x' * too_much)
    with serving() as (address, handler):
        download.download(address, str(tmp_path / 'file'), '')
        assert len(handler.asked) == requests
    assert (tmp_path / 'file').read_bytes() == Server.content


def recipe_from(address, content):
    """Food-101 with another address; its checksum is that of ``content``."""
    file = replace(RECIPES['Food101'].files[0], address=address, checksum=f'md5:{hashlib.md5(content).hexdigest()}')
    return replace(RECIPES['Food101'], files=(file,))


def test_what_is_missing_is_downloaded_checked_and_laid_out(tmp_path, monkeypatch):
    content = (write_official('Food101', tmp_path / 'elsewhere') / 'food-101.tar.gz').read_bytes()
    monkeypatch.setattr(DATASETS.get('Food101'), 'COUNTS', {'train': (1, 1), 'test': (1, 1)})
    with serving(content=content) as (address, _):
        recipe = recipe_from(address, content)
        prepare.prepare(recipe, [f'{tmp_path}/downloads/'], str(tmp_path / 'tree'))
    assert (tmp_path / 'downloads/food-101.tar.gz').read_bytes() == content
    assert len(build('Food101', tmp_path / 'tree', split='test')) == 1


def test_download_with_another_checksum_is_not_laid_out(tmp_path):
    with serving(content=b'another file') as (address, _):
        with pytest.raises(ArchiveError, match='food-101.tar.gz is not the official file: its md5 is'):
            recipe = recipe_from(address, b'the file')
            prepare.prepare(recipe, [str(tmp_path / 'food-101.tar.gz')], str(tmp_path / 'tree'))
    assert os.listdir(tmp_path) == ['food-101.tar.gz']


@pytest.mark.parametrize('network', [True, False])
def test_without_the_file_or_the_network_the_message_names_page_file_and_place(tmp_path, network):
    with serving() as (address, _):
        recipe = recipe_from(f'{address}missing' if network else 'http://127.0.0.1:9/', b'')
        with pytest.raises(ArchiveError) as error:
            prepare.prepare(recipe, [str(tmp_path / 'food-101.tar.gz')], str(tmp_path / 'tree'))
    message = str(error.value)
    assert ('404' if network else 'refused') in message
    assert f'Get food-101.tar.gz from {recipe.page}, put it as {tmp_path}/food-101.tar.gz, and run this' in message


# ---- commands --------------------------------------------------------------------------------------------------------


def run_command(name, *arguments):
    environment = dict(os.environ, PYTHONPATH=str(ROOT))
    command = [sys.executable, COMMAND, name, *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment)


def test_data_set_behind_a_form_says_what_to_get_where(tmp_path):
    done = run_command('InShop', tmp_path, tmp_path / 'tree')
    assert done.returncode == 1 and not done.stdout
    assert 'Get Img/img.zip, Eval/list_eval_partition.txt from https://mmlab.ie.cuhk.edu.hk/' in done.stderr
    assert f'(after their agreement), put them into {tmp_path}, and run this again.' in done.stderr


def test_broken_address_of_sop_comes_with_the_hint_that_a_copy_will_do(tmp_path):
    files = (replace(RECIPES['StanfordOnlineProducts'].files[0], address='http://127.0.0.1:9/'),)
    with pytest.raises(ArchiveError, match='lifted_struct/ .*copy from elsewhere: an exact one is known by its check'):
        prepare.prepare(
            replace(RECIPES['StanfordOnlineProducts'], files=files), [f'{tmp_path}/'], str(tmp_path / 'tree')
        )


def test_target_that_cannot_be_made_ends_the_command_with_a_message(tmp_path):
    source = write_official('CUB200', tmp_path / 'downloads')
    (tmp_path / 'file').write_bytes(b'')
    done = run_command('CUB200', source, tmp_path / 'file/tree', '--skip-checks')
    assert done.returncode == 1 and 'Traceback' not in done.stderr and f'{tmp_path}/file/tree' in done.stderr


def test_command_lays_out_a_repacked_copy_and_names_the_next_command(tmp_path, capsys):
    source = write_official('FGVCAircraft', tmp_path / 'downloads')
    prepare_tool.main(['FGVCAircraft', str(source), str(tmp_path / 'tree'), '--skip-checks'])
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == f'FGVCAircraft in {tmp_path}/tree: train 1 classes, 1 images; test 1 classes, 1 images'
    assert printed[1].endswith(f'tools/misc/verify_dataset.py FGVCAircraft --data-root {tmp_path}/tree/data')
    with pytest.raises(SystemExit, match='is there already'):
        prepare_tool.main(['FGVCAircraft', str(source), str(tmp_path / 'tree')])


def test_files_may_be_named_one_by_one(tmp_path):
    source = write_official('Cars196', tmp_path / 'downloads')
    (source / 'cars_annos.mat').rename(tmp_path / 'cars_annos.mat')
    arguments = ['Cars196', source / 'car_ims.tgz', tmp_path / 'cars_annos.mat', tmp_path / 'tree', '--skip-checks']
    prepare_tool.main(list(map(str, arguments)))
    assert len(build('Cars196', tmp_path / 'tree')) == 1


def test_help_lists_every_recipe_with_its_files_and_page():
    done = subprocess.run([sys.executable, COMMAND, '--help'], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0
    for name, recipe in RECIPES.items():
        assert f'  {name}\n' in done.stdout and recipe.page in done.stdout
        assert all(file.name in done.stdout for file in recipe.files)


def test_unknown_recipe_names_the_nearest_and_all():
    with pytest.raises(SystemExit, match=r"no recipe 'Cars169'; did you mean 'Cars196'\? .* CUB200, "):
        prepare_tool.main(['Cars169', 'downloads', 'tree'])


def test_full_disk_while_downloading_keeps_no_part(tmp_path):
    (tmp_path / 'file.part').symlink_to('/dev/full')
    with (
        serving() as (address, _),
        pytest.raises(ArchiveError, match='No space left on device; the part .* is removed'),
    ):
        download.download(address, str(tmp_path / 'file'), '')
    assert not os.listdir(tmp_path)


# ---- progress --------------------------------------------------------------------------------------------------------


def test_progress_tells_share_rate_and_time_left():
    line = ProgressLine('file', total=2_000_000, done=500_000, in_bytes=True, stream=io.StringIO())
    line.set(1_000_000)
    assert line.line(5.0) == f'file [{"#" * 12:<24}]  50%  1.0 MB of 2.0 MB, 100.0 kB/s, 10 s left'
    assert ProgressLine('file', total=None, stream=io.StringIO()).line(1.0) == 'file 0, 0/s'
    assert [bytes_as_text(number) for number in (999, 1234, 3.1e9)] == ['999 B', '1.2 kB', '3.10 GB']


def test_short_job_leaves_no_line_in_a_log_file():
    stream = io.StringIO()
    with ProgressLine('file', total=3, stream=stream) as progress:
        progress.add(3)
    assert stream.getvalue() == ''


def test_terminal_sees_the_end_of_a_job():
    stream = io.StringIO()
    stream.isatty = lambda: True
    with ProgressLine('images', total=3, stream=stream) as progress:
        progress.add(3)
    assert '100%  3 of 3' in stream.getvalue() and stream.getvalue().endswith('\n')


# ---- features --------------------------------------------------------------------------------------------------------


def load_extractor():
    path = ROOT / 'tools/dataset_converters/extract_features.py'
    tool_spec = importlib.util.spec_from_file_location('extract_features', path)
    tool = importlib.util.module_from_spec(tool_spec)
    tool_spec.loader.exec_module(tool)
    return tool


def test_features_of_another_model_size_or_list_are_not_taken_for_those_asked_for(pictures, tmp_path, capsys):
    tool = load_extractor()
    files = sorted(Path(pictures).glob('class_[01]/*.png'))
    rows = [f'{file} {file.parent.name}\n' for file in files]
    (tmp_path / 'train.txt').write_text(''.join(rows))

    def extract(size=32, lists=('train.txt',), name='mobilenet-v2'):
        arguments = [f'{ROOT}/configs/_base_/models/{name}.py', tmp_path, tmp_path / 'out', '--size', size]
        options = ['--lists', *lists, '--cfg-options', 'model.backbone.init_cfg=None']
        tool.main([str(each) for each in (*arguments, *options)])
        return capsys.readouterr().out

    assert f'written: {tmp_path}/out/train.npz, {len(files)} rows of 1280 features' in extract()
    (tmp_path / 'test.txt').write_text(''.join(rows[:4]))
    out = extract(lists=['train.txt', 'test.txt'])
    assert 'skipped: ' in out and 'test.npz, 4 rows' in out
    for other in (dict(size=48), dict(name='efficientnet-lite0')):
        with pytest.raises(ValueError, match='train.npz is of another model or --size: name another folder'):
            extract(**other)
    (tmp_path / 'test.txt').write_text(''.join(rows[:5]))
    with pytest.raises(ValueError, match='test.npz is of other images or labels'):
        extract(lists=['test.txt'])


def test_features_lie_in_their_folder_and_two_lists_do_not_share_a_file(tmp_path):
    lists = ['train.txt', 'elsewhere/test.txt', '/somewhere/all.v2.txt']
    found = load_extractor().target_files(lists, tmp_path)
    assert list(found.items()) == [
        (tmp_path / name, each) for name, each in zip(['train.npz', 'test.npz', 'all.v2.npz'], lists, strict=True)
    ]
    with pytest.raises(ValueError, match=r'the features of train.txt and of train.lst would be one file'):
        load_extractor().target_files(['train.txt', 'train.lst'], tmp_path)
