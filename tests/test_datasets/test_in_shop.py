from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config

from mmdml.datasets import GALLERY, QUERY, RetrievalConcatDataset
from mmdml.registry import DATASETS, METRICS

CONFIG = Path(__file__).parents[2] / 'configs/_base_/datasets/inshop.py'
HEADER = 'image_name item_id evaluation_status'
# Gallery before queries and items out of order; ids do not follow the order of appearance in any part.
ROWS = [
    ('img/WOMEN/Dresses/id_00000007/01_1_front.jpg', 'id_00000007', 'gallery'),
    ('img/WOMEN/Dresses/id_00000002/02_1_front.jpg', 'id_00000002', 'train'),
    ('img/MEN/Denim/id_00000001/01_2_side.jpg', 'id_00000001', 'train'),
    ('img/MEN/Denim/id_00000001/01_1_front.jpg', 'id_00000001', 'train'),
    ('img/MEN/Denim/id_00000003/01_1_front.jpg', 'id_00000003', 'gallery'),
    ('img/MEN/Denim/id_00000003/01_2_side.jpg', 'id_00000003', 'query'),
    ('img/WOMEN/Dresses/id_00000007/01_2_side.jpg', 'id_00000007', 'query'),
    ('img/WOMEN/Dresses/id_00000007/01_3_back.jpg', 'id_00000007', 'gallery'),
    ('img/WOMEN/Tees/id_00000005/04_1_front.jpg', 'id_00000005', 'train'),
]


def write_list(path, rows=ROWS, count=None, header=HEADER):
    """Columns filled up with blanks, as in the official file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [str(len(rows) if count is None else count), header, *(f'{a:<60} {b}  {c}' for a, b, c in rows)]
    path.write_text('\n'.join(lines) + '\n')


def draw(folder, size):
    for path, *_ in ROWS:
        target = folder / path.removeprefix('img/')
        target.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(target), np.full((size, size, 3), 120, np.uint8))


@pytest.fixture
def official(tmp_path):
    root = tmp_path / 'official'
    write_list(root / 'Eval/list_eval_partition.txt')
    draw(root / 'Img/img', 10)
    draw(root / 'Img/img_highres', 24)
    return root


@pytest.fixture
def flat(tmp_path):
    """The layout of many copies: everything in one folder."""
    root = tmp_path / 'flat'
    write_list(root / 'list_eval_partition.txt')
    draw(root / 'img', 10)
    draw(root / 'img_highres', 24)
    return root


def build(root, **options):
    return DATASETS.build(dict(type='InShop', data_root=str(root), **options))


def names(dataset):
    return [dataset.metainfo['classes'][label] for label in dataset.labels]


def test_training_items_are_numbered_by_id(official):
    train = build(official, split='train')
    assert train.metainfo['classes'] == ['id_00000001', 'id_00000002', 'id_00000005']
    assert train.labels.tolist() == [1, 0, 0, 2] and train.labels.dtype == np.int64
    assert not train.metainfo['has_roles']


def test_test_split_holds_queries_and_gallery_with_their_roles(official):
    test = build(official, split='test')
    assert test.metainfo['classes'] == ['id_00000003', 'id_00000007'] and test.metainfo['has_roles']
    assert test.labels.tolist() == [1, 0, 0, 1, 1]
    roles = [test.get_data_info(i)['role'] for i in range(5)]
    assert roles == [GALLERY, GALLERY, QUERY, QUERY, GALLERY]


def test_query_and_gallery_alone_have_the_labels_of_the_test_split(official):
    query, gallery = build(official, split='query'), build(official, split='gallery')
    assert (query.split, query.part, gallery.part) == ('test', 'query', 'gallery')
    assert (query.labels.tolist(), gallery.labels.tolist()) == ([0, 1], [1, 0, 1])
    assert query.metainfo['classes'] == gallery.metainfo['classes'] == build(official, split='test').metainfo['classes']
    both = RetrievalConcatDataset([query, gallery], label_space='shared')
    assert both.labels.tolist() == [0, 1, 1, 0, 1] and both.metainfo['has_roles']


def test_labels_do_not_depend_on_the_order_of_the_list(official):
    before = {split: dict(_label_of_path(build(official, split=split))) for split in ('train', 'test', 'query')}
    write_list(official / 'Eval/list_eval_partition.txt', ROWS[::-1])
    after = {split: dict(_label_of_path(build(official, split=split))) for split in ('train', 'test', 'query')}
    assert before == after


def _label_of_path(dataset):
    infos = (dataset.get_data_info(i) for i in range(len(dataset)))
    return ((info['img_path'], info['gt_label']) for info in infos)


def test_item_without_a_gallery_picture_keeps_its_label_in_both_parts(official):
    rows = [row for row in ROWS if row[1:] != ('id_00000003', 'gallery')]
    write_list(official / 'Eval/list_eval_partition.txt', rows)
    assert build(official, split='gallery').labels.tolist() == [1, 1]
    assert build(official, split='query').labels.tolist() == [0, 1]


@pytest.mark.parametrize('layout', ['official', 'flat'])
@pytest.mark.parametrize('highres, size', [(False, 10), (True, 24)])
def test_both_layouts_and_both_image_folders_are_read(request, layout, highres, size):
    root = request.getfixturevalue(layout)
    dataset = build(root, split='test', highres=highres, pipeline=[dict(type='LoadImageFromFile')])
    assert [dataset[i]['img'].shape for i in range(5)] == [(size, size, 3)] * 5
    folder = 'img_highres' if highres else 'img'
    assert names(dataset) == [row[1] for row in ROWS if row[2] != 'train']
    assert f'/{folder}/WOMEN/Dresses/id_00000007/' in dataset.get_data_info(0)['img_path']


def test_validation_items_are_the_last_training_items(official):
    val = build(official, split='val', val_classes=1)
    assert val.metainfo['classes'] == ['id_00000005'] and not val.metainfo['has_roles']
    assert build(official, split='train', val_classes=1).metainfo['classes'] == ['id_00000001', 'id_00000002']


def test_queries_search_the_gallery_only_through_the_pipeline_and_metric_of_the_config(official):
    cfg = Config.fromfile(CONFIG)
    dataset = DATASETS.build(dict(cfg.test_dataloader.dataset, data_root=str(official)))
    metric = METRICS.build(dict(cfg.test_evaluator, recall_at=(1, 2, 3)))
    metric.dataset_meta = dataset.metainfo
    # The two queries are each other's nearest; item 3's only gallery picture is the last of three for its query.
    angles = [10.0, 80.0, 0.0, 1.0, 12.0]
    samples = []
    for i, angle in enumerate(np.deg2rad(angles)):
        sample = dataset[i]['data_samples']
        embedding = torch.tensor([np.cos(angle), np.sin(angle)], dtype=torch.float32)
        fields = {key: sample.get(key) for key in ('sample_idx', 'img_path', 'role', 'gt_label')}
        samples.append(dict(fields, embedding=embedding))
    metric.process(None, samples)
    scores = metric.evaluate(len(dataset))
    assert [scores[f'retrieval/Recall@{k}'] for k in (1, 2, 3)] == [50, 50, 100]
    assert cfg.test_evaluator.recall_at == (1, 10, 20, 30, 40, 50)


def test_published_counts_add_up():
    counts = DATASETS.get('InShop').COUNTS
    assert counts['query'][1] + counts['gallery'][1] == counts['test'][1]
    assert tuple(a + b for a, b in zip(counts['train'], counts['test'], strict=True)) == (7982, 52712)


def test_unknown_split_is_an_error_that_names_all_splits(official):
    with pytest.raises(ValueError, match=r"split='probe' of InShop .*'train', 'val', 'test', 'query', 'gallery'"):
        build(official, split='probe')


def test_missing_list_or_images_are_named_with_all_places_looked_at(official):
    (official / 'Img/img').rename(official / 'Img/pictures')
    with pytest.raises(FileNotFoundError, match=r'the folder Img/img or img in .*/official/? and .*Img/img\.zip from'):
        build(official)
    assert len(build(official, highres=True)) == 4
    (official / 'Eval/list_eval_partition.txt').unlink()
    with pytest.raises(FileNotFoundError) as error:
        build(official)
    expected = f'Eval/list_eval_partition.txt or list_eval_partition.txt in {official} and finds neither'
    assert expected in str(error.value) and 'mmlab.ie.cuhk.edu.hk' in str(error.value)


@pytest.mark.parametrize(
    'row',
    [
        ('img/a.jpg', 'id_00000001', 'val'),
        ('WOMEN/a.jpg', 'id_00000001', 'train'),
        ('img/a.jpg', 'id_00000001', 'train x'),
        ('img/a.jpg', '', 'train'),
    ],
)
def test_malformed_line_is_an_error_with_its_number(official, row):
    write_list(official / 'Eval/list_eval_partition.txt', [*ROWS[:2], row])
    with pytest.raises(ValueError, match=r'list_eval_partition\.txt, line 5: expected "image_name item_id eval.*query'):
        build(official)


def test_list_that_is_cut_short_or_has_no_count_line_is_an_error(official):
    path = official / 'Eval/list_eval_partition.txt'
    write_list(path, count=52712)
    with pytest.raises(ValueError, match=r"line 1: expected the number of images, 9, got '52712'; .* cut short"):
        build(official)
    path.write_text('\n'.join(path.read_text().splitlines()[1:]))
    with pytest.raises(ValueError, match=r'line 2: expected the header "image_name item_id evaluation_status"'):
        build(official)
