from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.evaluator import Evaluator
from mmengine.registry import init_default_scope

from mmdml.registry import DATASETS

BASES = Path(__file__).parents[2] / 'configs/_base_'
CONFIG = BASES / 'datasets/vehicleid.py'
# Image names have leading zeros, vehicle ids have none.
TRAIN = [('0000003', 10), ('0000001', 9), ('0000002', 9), ('0221500', 25001)]
TESTS = {
    800: [('0000010', 100), ('0000011', 100)],
    1600: [('0000012', 101), ('0000010', 100), ('0000011', 100)],
    2400: [('0000013', 20), ('0000012', 101), ('0000010', 100), ('0000011', 100)],
}


def write_list(path, rows):
    path.parent.mkdir(exist_ok=True)
    path.write_text(''.join(f'{a} {b}\n' for a, b in rows))


@pytest.fixture
def tree(tmp_path):
    root = tmp_path / 'VehicleID_V1.0'
    (root / 'image').mkdir(parents=True)
    for name, _ in TRAIN + TESTS[2400]:
        cv2.imwrite(str(root / f'image/{name}.jpg'), np.full((20, 30, 3), 120, np.uint8))
    write_list(root / 'train_test_split/train_list.txt', TRAIN)
    for size, rows in TESTS.items():
        write_list(root / f'train_test_split/test_list_{size}.txt', rows)
    write_list(root / 'attribute/img2vid.txt', TRAIN + TESTS[2400])
    write_list(root / 'attribute/model_attr.txt', [(9, 0), (25001, 249), (100, 3)])
    write_list(root / 'attribute/color_attr.txt', [(9, 6), (100, 5)])
    return root


def build(root, **options):
    return DATASETS.build(dict(type='VehicleID', data_root=str(root), **options))


def test_one_class_a_vehicle_in_the_order_of_the_numbers(tree):
    train = build(tree, split='train')
    assert train.metainfo['classes'] == ['9', '10', '25001']
    assert train.labels.tolist() == [1, 0, 0, 2] and train.labels.dtype == np.int64
    assert train.get_data_info(3)['img_path'] == str(tree / 'image/0221500.jpg')


@pytest.mark.parametrize(
    'size, classes, labels',
    [('small', ['100'], [0, 0]), ('medium', ['100', '101'], [1, 0, 0]), ('large', ['20', '100', '101'], [0, 2, 1, 1])],
)
def test_sizes_name_the_official_test_lists(tree, size, classes, labels):
    test = build(tree, split='test', size=size)
    assert test.metainfo['classes'] == classes and test.labels.tolist() == labels
    assert not test.metainfo['has_roles']


def test_full_list_is_read_where_it_is_shipped(tree):
    with pytest.raises(FileNotFoundError, match=r'train_test_split/test_list_13164\.txt\. .*www\.pkuml\.org'):
        build(tree, split='test', size='full')
    write_list(tree / 'train_test_split/test_list_13164.txt', TESTS[2400])
    assert len(build(tree, split='test', size='full')) == 4


@pytest.mark.parametrize('name', ['datasets/vehicleid', 'division/vehicleid'])
def test_the_configs_score_the_three_test_lists_in_one_run(tree, name):
    """Equal embeddings of equal vehicles find each other in every list."""
    cfg = Config.fromfile(BASES / f'{name}.py')
    for part in cfg.test_dataloader.dataset.datasets:
        part.data_root = str(tree)
    init_default_scope('mmdml')
    dataset = DATASETS.build(cfg.test_dataloader.dataset)
    assert len(dataset) == 2 + 3 + 4
    evaluator = Evaluator(cfg.test_evaluator)
    evaluator.dataset_meta = dataset.metainfo
    for item in (dataset[index] for index in range(len(dataset))):
        sample = item['data_samples']
        vehicle = dataset.metainfo['classes'][int(sample.gt_label)]
        embedding = torch.nn.functional.one_hot(torch.tensor(['20', '100', '101'].index(vehicle)), 3).float()
        evaluator.process([dict(embedding=embedding, gt_label=sample.gt_label, sample_idx=sample.sample_idx)])
    scores = evaluator.evaluate(len(dataset))
    for part in ('small', 'medium', 'large'):
        for protocol in ('retrieval', 'all_versus_all'):
            assert scores[f'{protocol}/{part}/Recall@1'] == 100
        assert scores[f'retrieval/{part}/Recall@1_std'] == 0
        assert scores[f'all_versus_all/{part}/MAP@R'] == 100


def test_training_does_not_depend_on_the_size_of_the_test_list(tree):
    assert build(tree, size='large').labels.tolist() == build(tree, size='small').labels.tolist()


def test_attributes_of_the_vehicles_that_have_them(tree):
    train, test = build(tree).metainfo, build(tree, split='test').metainfo
    assert (train['model_of'], train['color_of']) == ({'9': 0, '25001': 249}, {'9': 6})
    assert (test['model_of'], test['color_of']) == ({'100': 3}, {'100': 5})


def test_attributes_are_not_needed(tree):
    (tree / 'attribute').rename(tree / 'elsewhere')
    assert build(tree).metainfo['model_of'] == build(tree).metainfo['color_of'] == {}


def test_validation_classes_are_the_last_training_classes(tree):
    train, val = (build(tree, split=split, val_classes=1) for split in ('train', 'val'))
    assert (train.metainfo['classes'], val.metainfo['classes']) == (['9', '10'], ['25001'])


def test_pictures_go_through_the_pipelines_of_the_config(tree):
    cfg = Config.fromfile(CONFIG)
    for loader, size in ((cfg.train_dataloader, 4), (cfg.val_dataloader, 2)):
        dataset = DATASETS.build(dict(loader.dataset, data_root=str(tree)))
        assert len(dataset) == size and dataset[1]['inputs'].shape == (3, 224, 224)
    assert cfg.val_evaluator.recall_at == (1, 5)


def test_counts_name_every_list():
    counts = DATASETS.get('VehicleID').COUNTS
    assert {name: vehicles for name, (vehicles, _) in counts.items()} == dict(
        train=13164, small=800, medium=1600, large=2400, full=13164
    )
    assert counts['train'][1] + counts['full'][1] == 221567


def test_unknown_size_is_an_error_that_names_all_sizes(tree):
    with pytest.raises(ValueError, match=r"size=800 of VehicleID .*'small', 'medium', 'large', 'full'"):
        build(tree, size=800)


def test_missing_list_or_images_are_named(tree):
    (tree / 'image').rename(tree / 'images')
    with pytest.raises(FileNotFoundError, match=f'{tree}/image/0000003.jpg'):
        build(tree)
    (tree / 'train_test_split/train_list.txt').unlink()
    with pytest.raises(FileNotFoundError, match=rf'in {tree}; missing: train_test_split/train_list\.txt'):
        build(tree)


@pytest.mark.parametrize('line', ['0000004', '0000004 x', '0000004 4 4'])
@pytest.mark.parametrize(
    'name, columns',
    [
        ('train_test_split/train_list.txt', 'image_name vehicle_id'),
        ('attribute/model_attr.txt', 'vehicle_id model_id'),
        ('attribute/color_attr.txt', 'vehicle_id color_id'),
    ],
)
def test_malformed_line_is_an_error_with_its_number(tree, name, columns, line):
    number = len((tree / name).read_text().splitlines()) + 1
    with (tree / name).open('a') as file:
        file.write(line + '\n')
    with pytest.raises(ValueError) as error:
        build(tree)
    assert f'{tree / name}, line {number}: expected "{columns}", got {line!r}' in str(error.value)
