"""Images stored at the size of training, and decoded at a part of theirs: what training sees stays nearly the same."""

import json
import os
import shutil

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from mmdml.cli.main import main
from mmdml.datasets import ImageList
from mmdml.datasets.preparation.resized import resize_folder
from mmdml.datasets.transforms import LoadImageFromFile
from mmdml.registry import TRANSFORMS
from mmdml.utils import files

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
        f'error: 1 of 5 images are left out: replace them, or remove them from {photos}, and from '
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


def test_lists_lead_to_the_copies_and_else_stay_as_they_are(photos, tmp_path):
    source, target = tmp_path / 'photos', tmp_path / 'small'
    for name in ('c0/1.jpg', 'c0/2.png', 'c1/a b.png', 'c1/\u00fc.TIF'):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes((photos / ('a/1.jpg' if name.endswith('jpg') else 'b/3.png')).read_bytes())
    (tmp_path / 'link').symlink_to(source)
    (tmp_path / 'other.png').write_bytes((photos / 'b/3.png').read_bytes())
    absolute = f'{source}/c0/1.jpg x\n{tmp_path}/link/c1/a b.png y\n{tmp_path}/other.png y\n'
    lists = {
        'absolute.txt': (absolute, f'{target}/c0/1.jpg x\n{target}/c1/a b.png.jpg y\n{tmp_path}/other.png y\n'),
        # Names that are of no image, such as labels, and what stands in other columns.
        'c0/near.txt': ('2.png 2\r\nc0/2.png 9.png\r\n', '2.png.jpg 2\r\nc0/2.png.jpg 9.png\r\n'),
        'ids.lst': ('1 a b.png\n2|c1/a b.png\n', '1 a b.png.jpg\n2|c1/a b.png.jpg\n'),
        'table.csv': (
            'Label,path,note\nx,"c0/2.png",c0/2.png\ny,c1/\u00fc.TIF,"2.png, too"\n',
            'Label,path,note\nx,c0/2.png.jpg,c0/2.png\ny,c1/\u00fc.TIF.jpg,"2.png, too"\n',
        ),
    }
    for name, (text, _) in lists.items():
        (source / name).write_text(text, newline='')
    (source / 'wide.txt').write_text('c0/2.png x\nc1/a b.png y\n', encoding='utf-16')
    (source / 'latin.txt').write_bytes(b'c0/2.png na\xefve\n')
    done = run('--resize', SIDE, source, target)
    assert 'absolute.txt: 1 of its paths lead out of' in done.stderr and done.stderr.count('lead out of') == 1
    for name, (_, expected) in lists.items():
        assert (target / name).read_bytes().decode() == expected, name
    assert (target / 'wide.txt').read_text(encoding='utf-16') == 'c0/2.png.jpg x\nc1/a b.png.jpg y\n'
    assert (target / 'latin.txt').read_bytes() == b'c0/2.png.jpg na\xefve\n'
    for name in ('absolute.txt', 'table.csv', 'wide.txt'):
        copies = ImageList(ann_file=name, data_root=str(target))
        assert all((tmp_path / copies.get_data_info(row)['img_path']).is_file() for row in range(len(copies)))


def test_originals_that_were_replaced_or_removed_are_noticed(photos, tmp_path):
    source, target = tmp_path / 'photos', tmp_path / 'small'
    shutil.copytree(photos, source)
    (source / 'b/broken.jpg').unlink()
    (source / 'notes.txt').write_text('a' * 140_000 + '\n')
    # A line that is too long for a table does not keep the other lists from being written.
    assert run('--resize', SIDE, source, target).stdout.startswith('4 images written, 0 were there; lists: 2')
    assert (target / 'notes.txt').read_text() == (source / 'notes.txt').read_text()
    assert run('--resize', SIDE, source, target).stdout.startswith('0 images written, 4 were there')
    cv2.imwrite(str(source / 'a/1.jpg'), np.zeros((100, 100, 3), np.uint8))
    os.utime(source / 'a/1.jpg', (10, 10))
    (source / 'b/4.jpg').unlink()
    (source / 'a/2.jpg').write_text('<html>')
    os.utime(source / 'a/2.jpg', (20, 20))
    done = run('--resize', SIDE, source, target, code=1)
    assert done.stdout.startswith('1 images written, 1 were there')
    assert f'1 images have no original in {source} any more; remove them: b/4.jpg' in done.stderr
    assert cv2.imread(str(target / 'a/1.jpg')).max() == 0 and not (target / 'a/2.jpg').exists()


@pytest.mark.parametrize('text, fault', [('{"side": 6', 'Expecting'), ('[1]', r'it holds \[1\]')])
def test_damaged_facts_of_a_copy_are_named(photos, tmp_path, text, fault):
    (tmp_path / 'resized.json').write_text(text)
    with pytest.raises(ValueError, match=f'{tmp_path}/resized.json is damaged: {fault}'):
        resize_folder(str(photos), str(tmp_path), SIDE)


def test_a_picture_of_few_bits_is_left_out_until_they_are_given(photos, tmp_path):
    source, target = tmp_path / 'deep', tmp_path / 'small'
    source.mkdir()
    gray = np.linspace(0, 4000, 100 * 100, dtype=np.uint16).reshape(100, 100)
    cv2.imwrite(str(source / 'deep.png'), gray)
    cv2.imwrite(str(source / 'full.png'), gray * 16)
    error = run('--resize', SIDE, source, target, code=1).stderr
    assert 'left out: deep.png has 16 bits, but no value above 4,000: ' in error and '--significant-bits 12' in error
    assert [each.name for each in target.glob('*.jpg')] == ['full.png.jpg']
    assert run('--resize', SIDE, '--significant-bits', 12, source, target).stdout.startswith('1 images written, 1 were')
    deep, full = (cv2.imread(str(target / f'{name}.png.jpg')).astype(int) for name in ('deep', 'full'))
    assert abs(deep - full).max() <= 2 and deep.max() > 240
    # What is there has these bits.
    assert "'significant_bits': 12" in run('--resize', SIDE, source, target, code=1).stderr
    assert 'belongs to --resize' in run('--significant-bits', 12, 'CUB200', source, target, code=2).stderr


def test_a_folder_is_searched_for_leftovers_once_and_too_long_images_are_named(tmp_path, monkeypatch):
    (tmp_path / 'photos').mkdir()
    for number in range(5):
        cv2.imwrite(str(tmp_path / f'photos/{number}.png'), np.zeros((8, 8, 3), np.uint8))
    cv2.imwrite(str(tmp_path / 'photos/long.png'), np.zeros((1, 70_000, 3), np.uint8))
    searched = []
    search = files.remove_leftovers
    monkeypatch.setattr(files, 'remove_leftovers', lambda *given: searched.append(given) or search(*given))
    done = resize_folder(tmp_path / 'photos', tmp_path / 'small', 4)
    assert done.written == 5 and len(searched) <= 2
    assert done.broken == [('long.png', 'is 70,000 pixels long at this size, and JPEG takes 65,500')]
