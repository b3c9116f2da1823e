import contextlib
import zlib

import cv2
import numpy as np
import pytest

from mmdml.registry import TRANSFORMS
from mmdml.utils.image_decoding import decode_image

RAMP = np.linspace(0, 4095, 64).round().astype(np.uint16).reshape(8, 8)


def load(path, **options):
    return TRANSFORMS.build(dict(type='mmdml.LoadImageFromFile', **options))(dict(img_path=str(path)))['img']


@pytest.mark.parametrize('color_type', ['color', 'grayscale'])
@pytest.mark.parametrize('ending', ['.png', '.tiff', '.jpg', '.bmp', '.webp'])
def test_pictures_of_8_bits_are_what_opencv_decodes(tmp_path, ending, color_type):
    picture = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    path = tmp_path / f'a{ending}'
    cv2.imwrite(str(path), picture)
    flag = cv2.IMREAD_COLOR if color_type == 'color' else cv2.IMREAD_GRAYSCALE
    assert np.array_equal(load(path, color_type=color_type), cv2.imread(str(path), flag))


@pytest.mark.parametrize('ending', ['.png', '.tiff', '.pgm'])
def test_12_bits_in_a_16_bit_file_use_the_whole_range_when_they_are_named(tmp_path, ending, notes):
    path = tmp_path / f'a{ending}'
    cv2.imwrite(str(path), RAMP)
    if ending == '.pgm':  # the file states 65535, which would count
        path.write_bytes(path.read_bytes().replace(b'65535', b'4095'))
        image = load(path, color_type='grayscale')
    else:
        image = load(path, color_type='grayscale', significant_bits=12)
    assert np.array_equal(image, np.rint(RAMP / 4095 * 255).astype(np.uint8))
    assert not notes


def test_16_bit_data_that_would_be_nearly_black_are_named_once(tmp_path, notes):
    for name in 'ab':
        cv2.imwrite(str(tmp_path / f'{name}.png'), RAMP)
    transform = TRANSFORMS.build(dict(type='LoadImageFromFile'))
    for name in 'ab':
        assert transform(dict(img_path=str(tmp_path / f'{name}.png')))['img'].max() == 16
    (message,) = notes
    assert f'{tmp_path}/a.png has 16 bits, but no value above 4,095' in message and 'significant_bits=12' in message
    load(tmp_path / 'a.png', significant_bits=16)
    cv2.imwrite(str(tmp_path / 'c.png'), RAMP * 16)
    assert load(tmp_path / 'c.png').max() == 255
    assert len(notes) == 1


def chunk(kind, content):
    body = kind + content
    return len(content).to_bytes(4, 'big') + body + zlib.crc32(body).to_bytes(4, 'big')


def test_significant_bits_that_a_png_states_count(tmp_path, notes):
    data = cv2.imencode('.png', RAMP)[1].tobytes()
    header = 8 + 25
    (tmp_path / 'a.png').write_bytes(data[:header] + chunk(b'sBIT', b'\x0c') + data[header:])
    image = load(tmp_path / 'a.png')
    assert image.shape == (8, 8, 3) and np.array_equal(image[..., 0], np.rint(RAMP / 4095 * 255).astype(np.uint8))
    assert not notes


def test_values_of_a_png_that_are_scaled_to_16_bits_as_the_standard_says_are_not_scaled_again(tmp_path):
    full = (RAMP.astype(np.uint32) * 65535 // 4095).astype(np.uint16)
    data = cv2.imencode('.png', full)[1].tobytes()
    (tmp_path / 'a.png').write_bytes(data[:33] + chunk(b'sBIT', b'\x0c') + data[33:])
    assert np.array_equal(load(tmp_path / 'a.png')[..., 0], np.rint(full / 65535 * 255).astype(np.uint8))


def test_a_header_of_blanks_is_read_in_no_time():
    data = b'P5' + b' ' * 3000 + b'3 3 65535#' + bytes(18)
    with contextlib.suppress(ValueError):
        decode_image(data)


def huge_png(width, height):
    """A valid header with no picture behind it: refused before decoding, it says how large it is."""
    size = width.to_bytes(4, 'big') + height.to_bytes(4, 'big')
    return b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', size + b'\x08\x02\0\0\0') + chunk(b'IDAT', b'') + chunk(b'IEND', b'')


def test_picture_of_too_many_pixels_is_refused_by_its_header_with_the_number(tmp_path):
    (tmp_path / 'a.png').write_bytes(huge_png(30_000, 30_000))
    with pytest.raises(ValueError, match=r'it has 900,000,000 pixels, the limit is max_pixels=250,000,000'):
        load(tmp_path / 'a.png')
    cv2.imwrite(str(tmp_path / 'b.png'), RAMP)
    with pytest.raises(ValueError, match=r'it has 8 x 8 = 64 pixels, the limit is max_pixels=63'):
        load(tmp_path / 'b.png', max_pixels=63)
    assert load(tmp_path / 'b.png', max_pixels=64, significant_bits=12).shape == (8, 8, 3)
    assert load(tmp_path / 'b.png', max_pixels=None, significant_bits=12).shape == (8, 8, 3)


@pytest.mark.parametrize('options', [dict(max_pixels=0), dict(significant_bits=8), dict(significant_bits=17)])
def test_options_out_of_range_are_named(options):
    (name, value), *_ = options.items()
    with pytest.raises(ValueError, match=f'{name}={value} must be'):
        TRANSFORMS.build(dict(type='mmdml.LoadImageFromFile', **options))


def test_file_that_is_no_picture_says_how_it_begins(tmp_path):
    (tmp_path / 'a.png').write_bytes(b'<html>404</html>')
    with pytest.raises(ValueError, match=r"no picture that can be decoded; it begins with b'<html>40'"):
        load(tmp_path / 'a.png')
    transform = TRANSFORMS.build(dict(type='LoadImageFromFile', ignore_empty=True))
    assert transform(dict(img_path=str(tmp_path / 'a.png'))) is None


def test_a_damaged_jpeg_is_refused_alike_whether_or_not_it_may_be_decoded_smaller():
    damaged = cv2.imencode('.jpg', np.zeros((64, 64, 3), np.uint8))[1].tobytes()[:12]
    for least_side in (None, 10):
        with pytest.raises(ValueError, match='no picture that can be decoded'):
            TRANSFORMS.build(dict(type='LoadImageFromFile', least_side=least_side)).decode(damaged, 'a.jpg')


@pytest.mark.parametrize(('least_side', 'height'), [(None, 240), (200, 240), (100, 120), (60, 60), (10, 30)])
@pytest.mark.parametrize('color_type', ['color', 'grayscale'])
def test_a_jpeg_is_decoded_at_the_smallest_size_that_is_large_enough(least_side, height, color_type, tmp_path):
    ramp = np.broadcast_to(np.linspace(0, 255, 320).astype(np.uint8)[None, :, None], (240, 320, 3))
    cv2.imwrite(str(tmp_path / 'a.jpg'), ramp)
    cv2.imwrite(str(tmp_path / 'a.png'), ramp)
    load = TRANSFORMS.build(dict(type='LoadImageFromFile', least_side=least_side, color_type=color_type))
    image = load(dict(img_path=str(tmp_path / 'a.jpg')))['img']
    assert image.shape[:2] == (height, height * 4 // 3)
    whole = load(dict(img_path=str(tmp_path / 'a.png')))['img']
    assert whole.shape[:2] == (240, 320)
    small = cv2.resize(whole, image.shape[1::-1], interpolation=cv2.INTER_AREA)
    assert np.abs(image.astype(int) - small).mean() < 2
