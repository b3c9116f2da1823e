from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.config import Config

from mmdml.datasets import RetrievalConcatDataset
from mmdml.registry import DATASETS

CONFIG = Path(__file__).parents[2] / 'configs/_base_/datasets/sop.py'
HEADER = 'image_id class_id super_class_id path\n'
TRAIN = [
    (1, 1, 1, 'bicycle_final/111085122871_0.JPG'),
    (2, 1, 1, 'bicycle_final/111085122871_1.JPG'),
    (3, 2, 1, 'bicycle_final/111265328556_0.JPG'),
    (4, 9, 2, 'cabinet_final/1_0.JPG'),
    (5, 10, 2, 'cabinet_final/2_0.JPG'),
    (6, 10, 2, 'cabinet_final/2_1.JPG'),
]
TEST = [
    (7, 12, 12, 'toaster_final/9_0.JPG'),
    (8, 11319, 1, 'bicycle_final/3_0.JPG'),
    (9, 11319, 1, 'bicycle_final/3_1.JPG'),
]


def write_list(path, rows, header=HEADER):
    path.write_text(header + ''.join(' '.join(map(str, row)) + '\n' for row in rows))


@pytest.fixture
def tree(tmp_path):
    root = tmp_path / 'Stanford_Online_Products'
    for *_, path in TRAIN + TEST:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(root / path), np.full((20, 30, 3), 120, np.uint8))
    write_list(root / 'Ebay_train.txt', TRAIN)
    write_list(root / 'Ebay_test.txt', TEST)
    return root


def build(root, **options):
    return DATASETS.build(dict(type='StanfordOnlineProducts', data_root=str(root), **options))


def test_each_list_is_a_split_whose_classes_are_ordered_by_number(tree):
    train, test = build(tree, split='train'), build(tree, split='test')
    assert train.metainfo['classes'] == ['1', '2', '9', '10']
    assert train.labels.tolist() == [0, 0, 1, 2, 3, 3] and train.labels.dtype == np.int64
    assert test.metainfo['classes'] == ['12', '11319']
    assert test.labels.tolist() == [0, 1, 1] and not test.metainfo['has_roles']
    assert test.get_data_info(1)['img_path'] == str(tree / 'bicycle_final/3_0.JPG')


def test_super_class_of_every_image(tree):
    assert build(tree).columns['super_class'].tolist() == ['bicycle'] * 3 + ['cabinet'] * 3


def test_validation_classes_are_the_last_training_classes(tree):
    train, val = (build(tree, split=split, val_classes=2) for split in ('train', 'val'))
    assert (train.metainfo['classes'], val.metainfo['classes']) == (['1', '2'], ['9', '10'])


def test_files_written_on_windows_or_ended_by_empty_lines_read_the_same(tree):
    text = (tree / 'Ebay_train.txt').read_text()
    (tree / 'Ebay_train.txt').write_bytes(text.replace('\n', '\r\n').encode() + b'\r\n \r\n')
    assert build(tree).labels.tolist() == [0, 0, 1, 2, 3, 3]


def test_published_counts_add_up():
    counts = DATASETS.get('StanfordOnlineProducts').COUNTS
    assert tuple(map(sum, zip(*counts.values(), strict=True))) == (22634, 120053)


def test_pictures_go_through_the_pipelines_of_the_config(tree):
    cfg = Config.fromfile(CONFIG)
    for loader, size in ((cfg.train_dataloader, 6), (cfg.test_dataloader, 3)):
        dataset = DATASETS.build(dict(loader.dataset, data_root=str(tree)))
        assert len(dataset) == size and dataset[1]['inputs'].shape == (3, 224, 224)
    assert cfg.test_evaluator.recall_at == (1, 10, 100, 1000)
    assert cfg.train_dataloader.batch_size % cfg.train_dataloader.sampler.images_per_class == 0


def test_train_and_test_joined_keep_all_classes_apart(tree):
    both = RetrievalConcatDataset([build(tree), build(tree, split='test')], label_space='shared')
    assert len(both.metainfo['classes']) == 6 and both.labels.tolist() == [0, 0, 1, 2, 3, 3, 4, 5, 5]


def test_missing_list_is_named_with_its_official_source(tree):
    (tree / 'Ebay_test.txt').unlink()
    with pytest.raises(FileNotFoundError, match=rf'{tree}; missing: Ebay_test\.txt\. .*Stanford_Online_Products\.zip'):
        build(tree, split='test')
    assert len(build(tree, split='train')) == 6


def test_missing_pictures_end_the_run_at_once(tree):
    write_list(tree / 'Ebay_test.txt', [(1, 5, 3, 'chair_final/none.JPG')])
    with pytest.raises(FileNotFoundError, match=f'{tree}/chair_final/none.JPG'):
        build(tree, split='test')


@pytest.mark.parametrize(
    'line',
    ['7 x 1 bicycle_final/a.JPG', '7 3 1', 'image_id class_id super_class_id path'],
)
def test_malformed_line_is_an_error_with_its_number(tree, line):
    with (tree / 'Ebay_train.txt').open('a') as file:
        file.write(line + '\n')
    with pytest.raises(ValueError) as error:
        build(tree)
    expected = 'line 8: expected "image_id class_id super_class_id path", got'
    assert str(tree / 'Ebay_train.txt') in str(error.value) and expected in str(error.value)
    assert repr(line) in str(error.value)


def test_list_without_header_or_without_images_is_an_error(tree):
    write_list(tree / 'Ebay_train.txt', TRAIN, header='')
    with pytest.raises(ValueError, match=r'line 1: expected the header "image_id .*", got .1 1 1 bicycle'):
        build(tree)
    write_list(tree / 'Ebay_train.txt', [])
    with pytest.raises(ValueError, match=r'Ebay_train\.txt has no line "image_id'):
        build(tree)
    write_list(tree / 'Ebay_train.txt', [], header='')
    with pytest.raises(ValueError, match=r'line 1: .* got .the end of the file'):
        build(tree)


def test_list_that_is_not_utf8_is_an_error_with_file_and_line(tree):
    with (tree / 'Ebay_train.txt').open('ab') as file:
        file.write('7 3 1 bicycle_final/é.JPG\n'.encode('latin-1'))
    with pytest.raises(ValueError, match=rf'{tree}/Ebay_train\.txt, line 8 is not UTF-8'):
        build(tree)
