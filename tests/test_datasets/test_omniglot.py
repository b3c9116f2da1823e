import hashlib
import os.path as osp
import re
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from mmdml.datasets.omniglot import PACKAGED_ARCHIVE, area_average, read_archive
from mmdml.datasets.preparation import omniglot_archive
from mmdml.datasets.preparation.prepare import prepare
from mmdml.datasets.preparation.recipes import RECIPES
from mmdml.registry import DATASETS

ORIGINALS = Path('/work/shared/data/omniglot')


def build(**options):
    return DATASETS.build(dict(type='Omniglot', **options))


@pytest.mark.parametrize('split, classes, images', [('train', 964, 19_280), ('test', 659, 13_180)])
def test_packaged_archive_holds_the_whole_split(split, classes, images):
    dataset = build(split=split)
    assert len(dataset) == images
    assert len(dataset.metainfo['classes']) == classes
    assert np.bincount(dataset.labels).tolist() == [20] * classes
    item = dataset[images - 1]
    assert item['img'].shape == (28, 28) and item['img'].dtype == np.uint8
    assert item['sample_idx'] == images - 1


def test_alphabets_of_validation_training_and_test_parts():
    parts = [build(split=split, val_classes=0.2).metainfo['classes'] for split in ('train', 'val', 'test')]
    assert [len(part) for part in parts] == [771, 193, 659]
    assert not set(parts[0]) & set(parts[1])
    train, val, test = ({name.split('/')[0] for name in part} for part in parts)
    assert not (train | val) & test
    assert len(train & val) <= 1


def test_archive_and_its_readme_agree_and_stay_small():
    assert osp.getsize(PACKAGED_ARCHIVE) < 5_000_000
    with open(osp.join(osp.dirname(PACKAGED_ARCHIVE), 'README.md'), encoding='utf-8') as file:
        digest = re.search(r'sha256 `(\w+)`', file.read())[1]
    with open(PACKAGED_ARCHIVE, 'rb') as file:
        assert hashlib.sha256(file.read()).hexdigest() == digest
    assert 'MIT License' in Path(PACKAGED_ARCHIVE).with_name('LICENSE').read_text(encoding='utf-8')


def test_strokes_are_white_on_black():
    images = read_archive(PACKAGED_ARCHIVE, 'train', 28)[1]
    assert images.max() == 255
    assert (images == 0).mean() > 0.5


def test_changing_a_picture_does_not_change_the_shared_array():
    dataset = build()
    first = dataset[0]['img'].copy()
    dataset[0]['img'][:] = 7
    assert np.array_equal(dataset[0]['img'], first)


def test_validation_part_shows_the_drawings_of_its_own_classes():
    val, train = build(split='val', val_classes=1), build()
    assert val.get_data_info(0)['img_path'] == train.get_data_info(963 * 20)['img_path']
    assert np.array_equal(val[0]['img'], train[963 * 20]['img'])


def test_packed_item_carries_index_path_and_role():
    pack = dict(type='mmpretrain.PackInputs', meta_keys=('sample_idx', 'img_path', 'role'))
    item = build(pipeline=[pack])[25]
    assert item['inputs'].shape == (1, 28, 28)
    sample = item['data_samples']
    assert (sample.sample_idx, sample.role, int(sample.gt_label)) == (25, 0, 1)
    assert sample.img_path == 'images_background/Alphabet_of_the_Magi/character02/0710_06.png'


@pytest.mark.parametrize('original, size', [(105, 1), (105, 6), (21, 5), (21, 8), (21, 20), (21, 21)])
def test_area_average_equals_the_integral_over_each_new_pixel(original, size):
    strokes = np.random.default_rng(0).integers(0, 2, (2, original, original), dtype=np.uint8)
    fine = np.repeat(np.repeat(strokes, size, 1), size, 2).astype(np.float64)
    exact = fine.reshape(2, size, original, size, original).mean((2, 4)) * 255
    assert np.abs(area_average(strokes, size) - exact).max() <= 0.5 + 1e-9


def test_full_size_gives_the_original_drawing():
    strokes = np.random.default_rng(0).integers(0, 2, (1, 105, 105), dtype=np.uint8)
    assert np.array_equal(area_average(strokes, 105), strokes * 255)


@pytest.mark.parametrize('size', [0, 106])
def test_image_size_out_of_range_is_an_error(size):
    with pytest.raises(ValueError, match=f'image_size={size} '):
        build(image_size=size)


def test_missing_archive_is_an_error_with_path_and_command(tmp_path):
    with pytest.raises(FileNotFoundError, match=rf'{tmp_path}/omniglot\.npz.*prepare Omniglot'):
        build(data_root=str(tmp_path))


@pytest.fixture
def drawings(tmp_path):
    """The two official zips, two characters each: the originals where they are there, else drawings of noise."""
    chosen = {}
    if ORIGINALS.is_dir():
        with zipfile.ZipFile(ORIGINALS / 'images.zip') as archive:
            names = sorted(name for name in archive.namelist() if name.endswith('.png'))
            for prefix in ('images_background/', 'images_evaluation/'):
                own = [name for name in names if name.startswith(prefix)][:40]
                chosen.update({name: archive.read(name) for name in own})
    else:
        generator = np.random.default_rng(0)
        for part in ('images_background', 'images_evaluation'):
            for number in range(40):
                ink = generator.integers(0, 2, (105, 105), dtype=np.uint8) * 255
                name = f'{part}/{part[7]}/character{number // 20:02d}/0001_{number % 20:02d}.png'
                chosen[name] = cv2.imencode('.png', ink)[1].tobytes()
    for part in ('images_background', 'images_evaluation'):
        with zipfile.ZipFile(tmp_path / f'{part}.zip', 'w') as archive:
            for name, data in chosen.items():
                if name.startswith(part):
                    archive.writestr(name, data)
    return tmp_path, chosen


def test_recipe_writes_the_drawings_without_loss_and_the_same_bytes_each_time(drawings, tmp_path, monkeypatch):
    folder, chosen = drawings
    parts = {'train': ('images_background', 2), 'test': ('images_evaluation', 2)}
    monkeypatch.setattr(omniglot_archive, 'PARTS', parts)
    for name in ('one', 'two'):
        prepare(RECIPES['Omniglot'], [str(folder)], str(tmp_path / name), checks=False)
        assert [path.name for path in (tmp_path / name).iterdir()] == ['omniglot.npz']
    written = [(tmp_path / name / 'omniglot.npz').read_bytes() for name in ('one', 'two')]
    assert written[0] == written[1]
    dataset = build(split='test', data_root=str(tmp_path / 'one'), image_size=105)
    assert len(dataset) == 40
    for index in (0, 39):
        item = dataset[index]
        original = cv2.imdecode(np.frombuffer(chosen[item['img_path']], np.uint8), cv2.IMREAD_GRAYSCALE)
        assert np.array_equal(item['img'], 255 - original)


def test_packaged_drawings_equal_the_originals(drawings):
    _, chosen = drawings
    if not ORIGINALS.is_dir():
        # Without the originals the digest in the README, checked above, is what there is.
        assert len(chosen) == 80
        return
    with np.load(PACKAGED_ARCHIVE) as archive:
        names, packed = archive['test_names'][:40], archive['test_images'][:40]
    for name, bits in zip(names, packed, strict=True):
        original = cv2.imdecode(np.frombuffer(chosen[name.decode()], np.uint8), cv2.IMREAD_GRAYSCALE)
        assert np.array_equal(np.unpackbits(bits, axis=-1, count=105) * 255, 255 - original)


def test_recipe_refuses_an_incomplete_source_and_leaves_nothing(drawings, tmp_path):
    with pytest.raises(ValueError, match='there are 40 drawings in images_background/, expected 19280'):
        prepare(RECIPES['Omniglot'], [str(drawings[0])], str(tmp_path / 'out'), checks=False)
    assert not list(tmp_path.glob('out*'))
