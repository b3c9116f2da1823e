import cv2
import numpy as np
import pytest

from mmdml.datasets import GALLERY, QUERY
from mmdml.registry import DATASETS

FILES = [
    'bounding_box_train/0007_c2s3_000201_01.jpg',
    'bounding_box_train/0002_c1s1_000451_03.jpg',
    'bounding_box_train/0002_c6s4_000801_10.jpg',
    'query/0001_c5s1_001426_00.jpg',
    'query/0003_c1s6_015971_00.jpg',
    'bounding_box_test/-1_c1s1_000401_03.jpg',
    'bounding_box_test/0000_c1s1_000151_01.jpg',
    'bounding_box_test/0001_c1s1_001051_03.jpg',
    'bounding_box_test/0003_c4s6_015641_00.jpg',
]


@pytest.fixture
def tree(tmp_path):
    root = tmp_path / 'Market-1501-v15.09.15'
    for name in FILES:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(root / name), np.zeros((8, 4, 3), np.uint8))
        (root / name).with_name('Thumbs.db').write_bytes(b'no picture')
    return root


def build(root, **options):
    return DATASETS.build(dict(type='Market1501', data_root=str(root), **options))


def test_train_folder_holds_the_training_persons(tree):
    train = build(tree, split='train')
    assert train.metainfo['classes'] == ['0002', '0007'] and train.labels.tolist() == [0, 0, 1]
    assert not train.metainfo['has_roles']


def test_queries_search_a_gallery_with_distractors_and_without_junk(tree):
    test = build(tree, split='test')
    assert test.metainfo['classes'] == ['0000', '0001', '0003']
    assert test.labels.tolist() == [1, 2, 0, 1, 2]
    roles = [test.get_data_info(i)['role'] for i in range(5)]
    assert roles == [QUERY, QUERY, GALLERY, GALLERY, GALLERY]
    assert test.get_data_info(2)['img_path'] == str(tree / FILES[6])


def test_cameras_reach_the_samples(tree):
    pack = dict(type='mmpretrain.PackInputs', meta_keys=('sample_idx', 'role', 'camera'))
    test = build(tree, split='test', pipeline=[dict(type='LoadImageFromFile'), pack])
    assert [test[i]['data_samples'].camera for i in range(5)] == [5, 1, 1, 1, 4]


def test_validation_persons_are_the_last_training_persons(tree):
    val = build(tree, split='val', val_classes=1)
    assert val.metainfo['classes'] == ['0007'] and val.get_data_info(0)['camera'] == 2


@pytest.mark.parametrize('name', ['0002_c7s1_000451_03.jpg', '2_c1s1_000451_03.jpg', '0002.jpg'])
def test_picture_with_another_name_is_an_error_that_names_it(tree, name):
    (tree / 'bounding_box_train' / name).write_bytes(b'')
    with pytest.raises(ValueError) as error:
        build(tree)
    assert f'{tree}/bounding_box_train/{name}: expected a name like 0002_c1s1_000451_03.jpg' in str(error.value)


def test_missing_folder_is_named(tree):
    (tree / 'query').rename(tree / 'queries')
    with pytest.raises(FileNotFoundError, match=r'missing: query\. .*Market-1501-v15\.09\.15\.zip'):
        build(tree, split='test')


def test_files_that_macos_adds_do_no_harm(tree):
    (tree / 'bounding_box_train/._0002_c2s1_000451_03.jpg').write_bytes(b'no picture')
    assert len(build(tree)) == 3


def test_pictures_of_other_kinds_are_taken_and_other_files_named(tree, notes):
    for name in ('0002_c1s1_000451_04.JPG', '0002_c3s1_000451_05.png'):
        cv2.imwrite(str(tree / 'bounding_box_train' / name.lower()), np.zeros((8, 4, 3), np.uint8))
        (tree / 'bounding_box_train' / name.lower()).rename(tree / 'bounding_box_train' / name)
    (tree / 'bounding_box_train/readme.txt').write_text('no picture')
    assert build(tree).labels.tolist() == [0, 0, 0, 0, 1]
    assert any('1 files in' in note and 'bounding_box_train/readme.txt' in note for note in notes)
