import importlib.util
import tarfile
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import cv2
import numpy as np
import pytest

from mmdml.registry import DATASETS

CUB50 = Path('/work/shared/data/cub50')
CONVERTER = Path(__file__).parents[2] / 'tools/dataset_converters/prepare_cub200.py'


def load_converter():
    spec = importlib.util.spec_from_file_location('prepare_cub200', CONVERTER)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


converter = load_converter()


def write_lists(root, rows, num_classes):
    """``rows`` of (path, class id)."""
    names = {class_id: path.split('/')[0] for path, class_id in rows}
    (root / 'images.txt').write_text(''.join(f'{i} {path}\n' for i, (path, _) in enumerate(rows, 1)))
    (root / 'image_class_labels.txt').write_text(''.join(f'{i} {label}\n' for i, (_, label) in enumerate(rows, 1)))
    (root / 'classes.txt').write_text(''.join(f'{i} {names[i]}\n' for i in range(1, num_classes + 1)))


@pytest.fixture
def tree(tmp_path):
    """The official layout with 200 classes of one small picture each."""
    root = tmp_path / 'CUB_200_2011'
    rows = [(f'{i:03d}.Bird_{i}/{i}.jpg', i) for i in range(1, 201)]
    for path, class_id in rows:
        (root / 'images' / path).parent.mkdir(parents=True)
        cv2.imwrite(str(root / 'images' / path), np.full((6, 6, 3), class_id, np.uint8))
    write_lists(root, rows, 200)
    return root


@pytest.fixture(scope='module')
def birds(tmp_path_factory):
    """Real birds of 50 classes where they are there, else pictures of noise, in the official layout."""
    root = tmp_path_factory.mktemp('birds')
    if CUB50.is_dir():
        listed = [line.split() for part in ('train', 'test') for line in (CUB50 / f'{part}.txt').open()]
        # Four pictures of each class are enough.
        chosen = [
            row for i, row in enumerate(listed) if sum(other[1] == row[1] for other in listed[max(0, i - 4) : i]) < 4
        ]
        with zipfile.ZipFile(CUB50 / 'images.zip') as archive:
            archive.extractall(root, [path for path, _ in chosen])
        rows = [(path.split('/', 1)[1], int(label) + 1) for path, label in chosen]
    else:
        rows = [(f'{c:03d}.Bird/{i}.jpg', c) for c in range(1, 51) for i in range(4)]
        for path, _ in rows:
            (root / 'images' / path).parent.mkdir(parents=True, exist_ok=True)
            noise = np.random.default_rng(0).integers(0, 256, (144, 160, 3), dtype=np.uint8)
            cv2.imwrite(str(root / 'images' / path), noise)
    write_lists(root, rows, 50)
    return root


def build(root, **options):
    return DATASETS.build(dict(type='CUB200', data_root=str(root), **options))


def test_first_hundred_classes_train_and_last_hundred_test(tree):
    train, test = build(tree, split='train'), build(tree, split='test')
    assert train.metainfo['classes'] == [f'{i:03d}.Bird_{i}' for i in range(1, 101)]
    assert test.metainfo['classes'] == [f'{i:03d}.Bird_{i}' for i in range(101, 201)]
    assert train.labels.tolist() == test.labels.tolist() == list(range(100))
    assert test.get_data_info(0)['img_path'] == str(tree / 'images/101.Bird_101/101.jpg')


def test_validation_classes_come_from_the_training_classes(tree):
    train, val = (build(tree, split=split, val_classes=0.2) for split in ('train', 'val'))
    assert val.metainfo['classes'] == [f'{i:03d}.Bird_{i}' for i in range(81, 101)]
    assert len(train.metainfo['classes']) == 80


def test_real_birds_load_and_pack_with_index_path_and_role(birds):
    pack = dict(type='mmpretrain.PackInputs', meta_keys=('sample_idx', 'img_path', 'role'))
    resize = dict(type='mmpretrain.ResizeEdge', scale=64)
    pipeline = [dict(type='LoadImageFromFile'), resize, dict(type='mmpretrain.CenterCrop', crop_size=56), pack]
    dataset = build(birds, split='test', train_classes=25, pipeline=pipeline)
    item = dataset[3]
    assert item['inputs'].shape == (3, 56, 56)
    assert item['inputs'].float().std() > 1
    sample = item['data_samples']
    assert (sample.sample_idx, sample.role, int(sample.gt_label)) == (3, 0, dataset.labels[3])
    assert sample.img_path == dataset.get_data_info(3)['img_path']
    assert len(dataset.metainfo['classes']) == 25


def test_missing_tree_says_what_was_looked_for_where_and_what_prepares_it(tmp_path):
    with pytest.raises(FileNotFoundError) as error:
        build(tmp_path / 'none')
    for part in (str(tmp_path / 'none'), 'images.txt', 'image_class_labels.txt', '65de6-vp158'):
        assert part in str(error.value)
    assert f'python tools/dataset_converters/prepare_cub200.py CUB_200_2011.tgz {tmp_path / "none"}' in str(error.value)


def test_reduced_tree_needs_train_classes_that_leave_test_classes(birds):
    with pytest.raises(ValueError, match='train_classes=100 must leave .* of the 50'):
        build(birds)


def test_image_without_class_is_an_error_that_names_it(tree):
    lines = (tree / 'image_class_labels.txt').read_text().splitlines()
    (tree / 'image_class_labels.txt').write_text('\n'.join(lines[:-1]))
    with pytest.raises(ValueError, match=r'1 images .* e\.g\. image 200 \(200\.Bird_200/200\.jpg\)'):
        build(tree)


def test_broken_official_line_is_an_error_with_its_number(tree):
    (tree / 'images.txt').write_text('1 a.jpg\nb.jpg\n')
    with pytest.raises(ValueError, match=r"images\.txt, line 2: .*'b\.jpg'"):
        build(tree)


# ----------------------------------------------------------------------------------------------------- converter


@pytest.fixture
def archive(tree, tmp_path):
    path = tmp_path / 'CUB_200_2011.tgz'
    with tarfile.open(path, 'w:gz') as tar:
        tar.add(tree, 'CUB_200_2011')
        tar.add(tree / 'classes.txt', 'attributes.txt')
    return path


def test_converter_lays_out_a_tree_that_loads(archive, tmp_path):
    target = tmp_path / 'data' / 'CUB'
    converter.prepare(str(archive), str(target), num_images=200)
    assert len(build(target, split='test')) == 100
    assert [path.name for path in target.parent.iterdir()] == ['CUB']


def test_converter_leaves_nothing_behind_when_the_archive_is_not_whole(archive, tmp_path):
    with pytest.raises(SystemExit, match='images.txt has 200 lines, expected 11788'):
        converter.prepare(str(archive), str(tmp_path / 'new'))
    assert not (tmp_path / 'new').exists() and not (tmp_path / 'new.unpacking').exists()


def test_converter_notices_a_cut_archive(archive, tmp_path):
    archive.write_bytes(archive.read_bytes()[:2000])
    with pytest.raises(SystemExit, match='cannot unpack .*CUB_200_2011.tgz'):
        converter.prepare(str(archive), str(tmp_path / 'new'), num_images=200)
    assert not (tmp_path / 'new').exists()


def test_converter_names_listed_images_that_are_missing(tree):
    (tree / 'images/007.Bird_7/7.jpg').unlink()
    with pytest.raises(SystemExit, match='1 images are missing .*007.Bird_7/7.jpg'):
        converter.verify(str(tree), num_images=200)


def test_converter_does_not_overwrite_a_tree(archive, tree):
    with pytest.raises(SystemExit, match='is there already'):
        converter.prepare(str(archive), str(tree), num_images=200)


class ServeTail(BaseHTTPRequestHandler):
    content = bytes(range(256)) * 16

    def do_GET(self):
        start = int(self.headers.get('Range', 'bytes=0-')[6:-1])
        self.send_response(206 if start else 200)
        self.end_headers()
        self.wfile.write(self.content[start:])

    def log_message(self, *args):
        pass


@pytest.mark.parametrize('already', [0, 1000])
def test_download_goes_on_where_it_stopped(tmp_path, already):
    server = HTTPServer(('127.0.0.1', 0), ServeTail)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        path = tmp_path / 'archive.tgz'
        if already:
            (tmp_path / 'archive.tgz.part').write_bytes(ServeTail.content[:already])
        converter.download(str(path), f'http://127.0.0.1:{server.server_port}/archive')
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert path.read_bytes() == ServeTail.content


def test_download_without_network_names_the_official_page_and_file(tmp_path):
    with pytest.raises(SystemExit, match=r'(?s)CUB_200_2011\.tgz from https://data\.caltech\.edu/records/65de6-vp158'):
        converter.download(str(tmp_path / 'CUB_200_2011.tgz'), 'http://127.0.0.1:9/archive')
