import os
import shutil
import tempfile
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
    for name in ('auk', 'wrens'):
        (store / name).mkdir()
        cv2.imwrite(str(store / name / '1.png'), np.zeros((4, 4, 3), np.uint8))
    (store / 'auk/up').symlink_to('..')
    (folder / 'auk').symlink_to(store / 'auk')
    (folder / 'wren/more').symlink_to(store / 'wrens')
    dataset = build(folder)
    paths = [str(Path(dataset.get_data_info(i)['img_path']).relative_to(folder)) for i in range(len(dataset))]
    assert paths == ['auk/1.png', 'owl/a.png', 'tit/nested/x.jpeg', 'wren/1.png', 'wren/2.JPG', 'wren/more/1.png']


# ---- what a scan leaves out ----


KINDS = ['1.jpg', '2.png', '3.jfif', '4.gif', '5.jpe', '6.webp', '7.tiff', '8.JPEG', '9.dib']


def test_all_kinds_that_opencv_reads_are_read(tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    for label in ('auk', 'owl'):
        (tmp_path / label).mkdir()
        for name in KINDS:
            ending = '.jpg' if name.endswith('jfif') else name[1:].lower()
            (tmp_path / label / name).write_bytes(cv2.imencode(ending, picture)[1].tobytes())
    dataset = build(tmp_path, pipeline=[dict(type='LoadImageFromFile')])
    assert len(dataset) == 2 * len(KINDS)
    assert {dataset[i]['img'].shape for i in range(len(dataset))} == {(8, 8, 3)}


def test_pictures_beside_the_classes_and_other_files_are_counted_and_named(folder, notes):
    for name in ('loose.jpg', 'loose.png'):
        shutil.copy(folder / 'owl/a.png', folder / name)
    (folder / 'owl/b.heic').write_bytes(b'')
    (folder / 'owl/Thumbs.db').write_bytes(b'')
    build(folder)
    (loose,) = (message for message in notes if 'beside the class folders' in message)
    assert f'2 pictures in {folder} lie' in loose and 'are left out, e.g. loose.jpg;' in loose
    (others,) = (message for message in notes if 'no pictures that OpenCV reads' in message)
    assert f'3 files in {folder} are left out' in others and '.txt 2' in others and '.heic 1' in others


def test_folder_of_one_class_and_classes_of_one_picture_are_named(tmp_path, notes):
    (tmp_path / 'train/owl').mkdir(parents=True)
    cv2.imwrite(str(tmp_path / 'train/owl/a.png'), np.zeros((4, 4, 3), np.uint8))
    assert build(tmp_path).metainfo['classes'] == ['train']
    assert any('has one class folder, train' in m and 'one folder too high' in m for m in notes)
    assert any('1 classes in' in m and 'have one picture, e.g. train' in m for m in notes)


def test_pictures_without_class_folders_are_an_error_with_the_remedy(tmp_path):
    cv2.imwrite(str(tmp_path / 'a.png'), np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(FileNotFoundError, match='only 1 pictures: without classes they are read with unlabeled=True'):
        build(tmp_path)


def test_unlabeled_folder_takes_flat_and_nested_pictures(folder):
    shutil.copy(folder / 'owl/a.png', folder / 'loose.png')
    dataset = build(folder, unlabeled=True, pipeline=[dict(type='LoadImageFromFile')])
    paths = [str(Path(dataset.get_data_info(i)['img_path']).relative_to(folder)) for i in range(len(dataset))]
    assert paths == ['loose.png', 'owl/a.png', 'tit/nested/x.jpeg', 'wren/1.png', 'wren/2.JPG']
    assert dataset.labels.tolist() == [-1] * 5 and dataset[0]['gt_label'] == -1
    assert str(dataset.summary) == 'ImageFolder train: 5 images without labels'
    with pytest.raises(ValueError, match='val_classes=0.2 holds out classes, but the images have no labels'):
        build(folder, unlabeled=True, val_classes=0.2)
    (folder / 'empty').mkdir()
    with pytest.raises(FileNotFoundError, match='finds no picture in .*empty or below it'):
        build(folder / 'empty', unlabeled=True)


def test_one_picture_linked_into_two_classes_is_refused(folder):
    (folder / 'wren/again.png').symlink_to(folder / 'owl/a.png')
    with pytest.raises(ValueError, match='owl/a.png and .*wren/again.png are one image, but have the labels owl and w'):
        build(folder)


def test_pipe_and_broken_link_are_refused_by_name(folder):
    os.mkfifo(folder / 'owl/0.jpg')
    with pytest.raises(ValueError, match=r'owl/0\.jpg is a pipe, not a picture; remove it'):
        build(folder)
    (folder / 'owl/0.jpg').unlink()
    (folder / 'owl/0.jpg').symlink_to('nowhere')
    with pytest.raises(ValueError, match=r'owl/0\.jpg is a link that leads nowhere'):
        build(folder)


def test_folder_that_cannot_be_read_is_an_error_that_names_it():
    # Outside of pytest's folders, which other users cannot enter.
    with tempfile.TemporaryDirectory() as root:
        os.chmod(root, 0o755)
        for path in ('owl/a.png', 'owl/more/b.png'):
            (Path(root) / path).parent.mkdir(exist_ok=True)
            cv2.imwrite(f'{root}/{path}', np.zeros((4, 4, 3), np.uint8))
        os.chmod(f'{root}/owl/more', 0)
        user = os.geteuid()
        if user == 0:
            os.seteuid(65534)
        try:
            with pytest.raises(PermissionError, match='a folder of pictures cannot be read.*owl/more'):
                build(root)
        finally:
            os.seteuid(user)
            os.chmod(f'{root}/owl/more', 0o755)


def test_names_that_are_no_utf8_are_read_and_printed(tmp_path, notes):
    folder = os.path.join(os.fsencode(tmp_path), b'caf\xe9')
    os.mkdir(folder)
    for name in (b'1.png', b'2.png'):
        with open(os.path.join(folder, name), 'wb') as file:
            file.write(cv2.imencode('.png', np.zeros((4, 4, 3), np.uint8))[1].tobytes())
    with open(os.path.join(folder, b'2.png'), 'wb') as file:
        file.write(b'broken')
    dataset = build(tmp_path, pipeline=[dict(type='LoadImageFromFile')], on_unreadable='same_class')
    assert dataset[1]['img'].shape == (4, 4, 3)
    (message,) = (note for note in notes if 'cannot read' in note)
    assert r'caf\xe9/2.png' in message and message.encode('utf-8')
