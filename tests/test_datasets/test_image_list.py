import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.config import Config

from mmdml.datasets import GALLERY, QUERY, QUERY_AND_GALLERY
from mmdml.registry import DATASETS

CONFIGS = Path(__file__).parents[2] / 'configs'


def build(folder, text, **options):
    (folder / 'list.txt').write_text(text, encoding='utf-8')
    for name in ('a.png', 'b.png', 'two words.png'):
        cv2.imwrite(str(folder / name), np.zeros((4, 4), np.uint8))
    return DATASETS.build(dict(type='ImageList', ann_file='list.txt', data_root=str(folder), **options))


def test_whole_number_labels_are_ordered_by_number(tmp_path):
    dataset = build(tmp_path, 'a.png 10\nb.png 9\na.png 10\n')
    assert dataset.metainfo['classes'] == ['9', '10']
    assert dataset.labels.tolist() == [1, 0, 1]


def test_word_labels_are_ordered_by_name(tmp_path):
    dataset = build(tmp_path, 'a.png wren\nb.png 9\n')
    assert dataset.metainfo['classes'] == ['9', 'wren']
    assert dataset.labels.tolist() == [1, 0]


def test_path_may_hold_blanks(tmp_path):
    dataset = build(tmp_path, 'two words.png  wren\n')
    assert dataset.get_data_info(0)['img_path'] == str(tmp_path / 'two words.png')


def test_comments_empty_lines_and_byte_order_mark_are_skipped(tmp_path):
    dataset = build(tmp_path, '\ufeff# birds\n\na.png 0\n   \n# more\nb.png 0\n')
    assert len(dataset) == 2
    assert dataset.get_data_info(0)['img_path'] == str(tmp_path / 'a.png')


def test_roles_come_from_the_third_column(tmp_path):
    dataset = build(tmp_path, 'a.png 0 query\ntwo words.png 0 gallery\nb.png 0 both\n', roles=True)
    infos = [dataset.get_data_info(i) for i in range(3)]
    assert [info['role'] for info in infos] == [QUERY, GALLERY, QUERY_AND_GALLERY]
    assert infos[1]['img_path'] == str(tmp_path / 'two words.png')


def test_images_may_lie_in_another_folder(tmp_path):
    (tmp_path / 'pictures').mkdir()
    cv2.imwrite(str(tmp_path / 'pictures' / 'c.png'), np.zeros((4, 4), np.uint8))
    dataset = build(tmp_path, 'c.png 0\n', data_prefix='pictures')
    assert dataset.get_data_info(0)['img_path'] == str(tmp_path / 'pictures' / 'c.png')


@pytest.mark.parametrize('line', ['b.png', 'onlyonefield'])
def test_broken_line_is_an_error_with_file_number_and_line(tmp_path, line):
    with pytest.raises(ValueError, match=rf"list\.txt, line 3: expected \"path label\", got '{line}'"):
        build(tmp_path, f'a.png 0\n# comment\n{line}\n')


@pytest.mark.parametrize('line', ['b.png 0', 'b.png 0 probe'])
def test_broken_role_is_an_error_with_file_number_and_line(tmp_path, line):
    with pytest.raises(ValueError, match=rf"list\.txt, line 2: expected .*query, gallery or both, got '{line}'"):
        build(tmp_path, f'a.png 0 query\n{line}\n', roles=True)


def test_missing_list_is_an_error_with_its_absolute_path(tmp_path):
    with pytest.raises(FileNotFoundError, match=str(tmp_path / 'none.txt')):
        DATASETS.build(dict(type='ImageList', ann_file='none.txt', data_root=str(tmp_path)))


def test_list_without_images_is_an_error_with_its_absolute_path(tmp_path):
    with pytest.raises(ValueError, match=f"no image in split='train': {tmp_path / 'list.txt'}"):
        build(tmp_path, '# nothing\n')


# ---- real pictures ----

GROCERY = Path('/work/shared/data/grocery')


@pytest.mark.skipif(not GROCERY.is_dir(), reason='the pictures of the Grocery Store data set are not on this machine')
def test_the_grocery_store_data_set_is_read_through_the_pipelines_of_a_config(tmp_path):
    with zipfile.ZipFile(GROCERY / 'images.zip') as archive:
        archive.extractall(tmp_path)
    cfg = Config.fromfile(CONFIGS / '_base_/datasets/cars196.py')
    classes = {}
    for split, images in (('train', 2979), ('test', 2442)):
        dataset = DATASETS.build(
            dict(
                type='ImageList',
                ann_file=str(GROCERY / f'{split}.txt'),
                data_root=str(tmp_path),
                split=split,
                test_mode=split == 'test',
                pipeline=cfg[f'{split}_pipeline'],
                seed=0,
            )
        )
        assert len(dataset) == images
        classes[split] = set(dataset.metainfo['classes'])
        for index in (0, images // 2, images - 1):
            item = dataset[index]
            assert item['inputs'].shape == (3, 224, 224) and item['inputs'].float().std() > 1
            assert int(item['data_samples'].gt_label) == dataset.labels[index]
    assert [len(names) for names in classes.values()] == [40, 41]
    assert not classes['train'] & classes['test']
