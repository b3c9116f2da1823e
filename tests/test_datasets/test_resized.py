"""Images stored at the size of training, and decoded at a part of theirs: what training sees stays nearly the same."""

import json

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from mmdml.cli.main import main
from mmdml.datasets import ImageList
from mmdml.datasets.transforms import LoadImageFromFile
from mmdml.registry import TRANSFORMS

SIDE = 64


def run(*arguments, code=0):
    done = CliRunner().invoke(main, ['prepare', *map(str, arguments)])
    assert done.exit_code == code, done.output
    return done


@pytest.fixture(scope='module')
def photos(tmp_path_factory):
    """Smooth pictures with some grain: two large JPEGs, a PNG, a small one, a broken one, and a list."""
    folder = tmp_path_factory.mktemp('photos')
    random = np.random.default_rng(0)
    for name, height, width in (
        ('a/1.jpg', 400, 600),
        ('a/2.jpg', 900, 300),
        ('b/3.png', 256, 320),
        ('b/4.jpg', 40, 50),
    ):
        (folder / name).parent.mkdir(exist_ok=True)
        coarse = random.integers(40, 215, (6, 6, 3), dtype=np.uint8)
        image = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC).astype(float)
        image = np.clip(image + random.normal(0, 3, image.shape), 0, 255).astype(np.uint8)
        cv2.imwrite(str(folder / name), image, [cv2.IMWRITE_JPEG_QUALITY, 95])
    (folder / 'b/broken.jpg').write_text('<html>')
    (folder / 'train.txt').write_text('a/1.jpg first\na/2.jpg first\nb/3.png second\nb/4.jpg second\n')
    return folder


def seen(path, **options):
    """What a pipeline makes of a file."""
    load = LoadImageFromFile(**options)(dict(img_path=str(path)))
    resize = dict(type='mmpretrain.ResizeEdge', scale=SIDE, edge='short', backend='cv2', interpolation='area')
    return TRANSFORMS.build(resize)(load)['img'].astype(int)


def test_a_copy_has_the_short_side_its_lists_and_names_what_is_broken(photos, tmp_path):
    before = {path: path.read_bytes() for path in photos.rglob('*.*')}
    target = tmp_path / 'small'
    error = run('--resize', SIDE, photos, target, code=1)
    assert error.stdout.startswith('4 images written, 0 were there; lists: 1')
    named, end = error.stderr.splitlines()[-2:]
    assert named.startswith('left out: b/broken.jpg is no picture that OpenCV decodes')
    assert end == (
        f'error: 1 of 5 images cannot be read and are left out: replace them, or remove them from {photos}, and from '
        'the lists that name them, and run the command again'
    )
    sizes = {
        each: cv2.imread(str(target / each)).shape[:2] for each in ('a/1.jpg', 'a/2.jpg', 'b/3.png.jpg', 'b/4.jpg')
    }
    assert list(sizes.values()) == [(64, 96), (192, 64), (64, 80), (40, 50)]
    assert json.loads((target / 'resized.json').read_text())['quality'] == 95
    assert before == {path: path.read_bytes() for path in photos.rglob('*.*')}
    # The list opens the copies as it opens the originals.
    small, large = (ImageList(ann_file='train.txt', data_root=str(each)) for each in (target, photos))
    assert small.metainfo['classes'] == large.metainfo['classes'] and small.labels.tolist() == large.labels.tolist()
    for row in range(3):
        one, other = (seen(each.get_data_info(row)['img_path']) for each in (small, large))
        assert one.shape == other.shape and np.abs(one - other).mean() < 2 and np.abs(one - other).max() <= 24

    # Stopped and started again, it goes on; another size is refused.
    written = (target / 'a/1.jpg').stat().st_mtime_ns
    (target / 'a/2.jpg').unlink()
    again = run('--resize', SIDE, photos, target, code=1)
    assert again.stdout.startswith('1 images written, 3 were there') and (target / 'a/2.jpg').is_file()
    assert (target / 'a/1.jpg').stat().st_mtime_ns == written
    assert 'was made with' in run('--resize', 32, photos, target, code=1).stderr
    (photos / 'b/broken.jpg').unlink()
    assert run('--resize', SIDE, photos, target).stdout.startswith('0 images written, 4 were there')
    (photos / 'b/broken.jpg').write_bytes(before[photos / 'b/broken.jpg'])


def test_mistakes_end_in_a_line_before_anything_is_written(photos, tmp_path):
    assert 'overlap' in run('--resize', 8, photos, photos / 'small', code=1).stderr
    assert 'there is no folder' in run('--resize', 8, tmp_path / 'none', tmp_path / 'out', code=1).stderr
    assert 'takes a folder of pictures' in run('--resize', 8, photos, code=2).stderr
    (tmp_path / 'full').mkdir()
    (tmp_path / 'full/mine.txt').touch()
    assert 'has other files in it' in run('--resize', 8, photos, tmp_path / 'full', code=1).stderr
    assert not (photos / 'small').exists() and not (tmp_path / 'out').exists()


@pytest.mark.parametrize('name', ['a/1.jpg', 'a/2.jpg'])
def test_reduced_decoding_gives_what_resizing_gives_nearly(photos, name):
    load = LoadImageFromFile(least_side=2 * SIDE)(dict(img_path=str(photos / name)))
    assert 2 * SIDE <= min(load['img_shape']) < 4 * SIDE
    reduced, whole = seen(photos / name, least_side=2 * SIDE), seen(photos / name)
    assert reduced.shape == whole.shape and np.abs(reduced - whole).mean() < 1 and np.abs(reduced - whole).max() <= 8
    # A picture that is not twice as large is decoded whole.
    assert np.array_equal(seen(photos / 'b/4.jpg', least_side=32), seen(photos / 'b/4.jpg'))


def test_two_images_are_never_stored_under_one_name(tmp_path):
    folder = tmp_path / 'photos'
    folder.mkdir()
    for name in ('1.png', '1.png.jpg'):
        cv2.imwrite(str(folder / name), np.zeros((80, 80, 3), np.uint8))
    done = run('--resize', SIDE, folder, tmp_path / 'small', code=1)
    assert '1.png would be stored as 1.png.jpg, which is there too' in done.stderr
    assert not (tmp_path / 'small').exists()
