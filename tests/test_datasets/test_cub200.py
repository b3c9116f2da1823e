import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from mmdml.registry import DATASETS

CUB50 = Path('/work/shared/data/cub50')


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
    assert 'mmdml prepare CUB200 ' in str(error.value)


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


def test_empty_lines_byte_order_mark_and_zeros_before_a_number_change_nothing(tree):
    before = build(tree)
    for name in ('images.txt', 'image_class_labels.txt', 'classes.txt'):
        (tree / name).write_text('\ufeff0' + (tree / name).read_text() + '\n \n', encoding='utf-8')
    after = build(tree)
    assert after.metainfo == before.metainfo and after.labels.tolist() == before.labels.tolist()
    assert [after.get_data_info(i) for i in range(100)] == [before.get_data_info(i) for i in range(100)]


def test_list_that_is_not_utf8_is_an_error_with_file_and_line(tree):
    (tree / 'classes.txt').write_bytes(b'1 001.Bird\n2 002.B\xe9b\xe9\n')
    with pytest.raises(ValueError, match=r'classes\.txt, line 2 is not UTF-8'):
        build(tree)
