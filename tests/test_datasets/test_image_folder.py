import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from mmdml.registry import DATASETS


@pytest.fixture
def folder(tmp_path):
    for path in ('wren/2.JPG', 'wren/1.png', 'tit/nested/x.jpeg', 'owl/a.png', '.hidden/a.png', 'owl/.b.png'):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(tmp_path / path), np.zeros((4, 4, 3), np.uint8))
    (tmp_path / 'wren' / 'notes.txt').write_text('no picture')
    (tmp_path / 'readme.txt').write_text('no class')
    return tmp_path


def build(folder, **options):
    return DATASETS.build(dict(type='ImageFolder', data_root=str(folder), **options))


def test_folder_names_are_the_classes_in_order(folder):
    dataset = build(folder)
    assert dataset.metainfo['classes'] == ['owl', 'tit', 'wren']
    paths = [dataset.get_data_info(i)['img_path'] for i in range(len(dataset))]
    assert paths == [str(folder / path) for path in ('owl/a.png', 'tit/nested/x.jpeg', 'wren/1.png', 'wren/2.JPG')]
    assert dataset.labels.tolist() == [0, 1, 2, 2]


def test_images_can_be_opened(folder):
    item = build(folder, pipeline=[dict(type='LoadImageFromFile')])[1]
    assert item['img'].shape == (4, 4, 3)


def test_validation_classes_are_held_out(folder):
    assert build(folder, split='val', val_classes=1).metainfo['classes'] == ['wren']
    assert build(folder, split='train', val_classes=1).metainfo['classes'] == ['owl', 'tit']


def test_missing_folder_is_an_error_with_its_absolute_path(tmp_path):
    with pytest.raises(FileNotFoundError, match=str(tmp_path / 'none')):
        build(tmp_path / 'none')


def test_folder_without_class_folders_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match=f'one folder per class in {tmp_path}'):
        build(tmp_path)


def test_class_folder_without_images_is_an_error_that_names_it(folder):
    (folder / 'auk').mkdir()
    with pytest.raises(ValueError, match=r"1 class folders .* hold no image .*\['auk'\]"):
        build(folder)


@pytest.mark.parametrize(
    'link, to',
    [
        ('wren/up', '..'),
        ('wren/itself', '.'),
        ('wren/far_up', '../../..'),
        ('tit/again', 'nested'),
        ('tit/nested/class', '..'),
        ('tit/nested/root', '../..'),
        ('everything', '.'),
    ],
)
def test_links_to_folders_above_are_not_followed_and_no_folder_is_taken_twice(folder, tmp_path_factory, link, to):
    # Folders above hold nothing but the pictures: without the rule this test ends as well.
    folder = shutil.move(folder, tmp_path_factory.mktemp('above') / 'photos/train')
    before = build(folder)
    (folder / link).symlink_to(to, target_is_directory=True)
    after = build(folder)
    assert after.metainfo == before.metainfo
    names = [[Path(data.get_data_info(i)['img_path']).name for i in range(len(data))] for data in (before, after)]
    assert names[0] == names[1]


def test_links_to_folders_elsewhere_are_followed(folder, tmp_path_factory):
    store = tmp_path_factory.mktemp('store')
    (store / 'auk').mkdir()
    cv2.imwrite(str(store / 'auk/1.png'), np.zeros((4, 4, 3), np.uint8))
    (store / 'auk/up').symlink_to('..')
    (folder / 'auk').symlink_to(store / 'auk')
    (folder / 'wren/more').symlink_to(store / 'auk')
    dataset = build(folder)
    paths = [str(Path(dataset.get_data_info(i)['img_path']).relative_to(folder)) for i in range(len(dataset))]
    assert paths == ['auk/1.png', 'owl/a.png', 'tit/nested/x.jpeg', 'wren/1.png', 'wren/2.JPG', 'wren/more/1.png']
