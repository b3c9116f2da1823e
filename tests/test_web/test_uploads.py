"""Uploads of strangers."""

import io
import socket
import struct
import time
import zlib

import httpx2
import numpy as np
import pytest
from PIL import Image

from mmdml.utils.image_decoding import decode_image
from mmdml.web.decoder import Decoder, UnreadablePicture


def encoded(image, kind='PNG', **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def half_red(mode='RGB', size=(64, 48)):
    """A picture whose left half is red."""
    image = Image.new('RGB', size, 'white')
    image.paste('red', (0, 0, size[0] // 2, size[1]))
    return image.convert(mode)


def bomb(width, height):
    """A PNG of a few kB whose header says that it is large."""

    def chunk(kind, data):
        return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))

    header = struct.pack('>IIBBBBB', width, height, 8, 0, 0, 0, 0)
    rows = zlib.compress(bytes(1_000_000))
    return b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', header) + chunk(b'IDAT', rows) + chunk(b'IEND', b'')


@pytest.fixture(scope='module')
def decoder():
    decoder = Decoder(1, seconds=20)
    yield decoder
    decoder.close()


def exif_rotated():
    exif = Image.Exif()
    exif[0x0112] = 6  # shown a quarter turn clockwise: the left half is above
    return encoded(half_red(), 'JPEG', quality=95, exif=exif)


def gray_16_bits():
    return encoded(Image.fromarray(np.full((48, 64), 257 * 100, np.uint16)))


def animated():
    frames = [half_red(), Image.new('RGB', (64, 48), 'blue')]
    return encoded(frames[0], 'GIF', save_all=True, append_images=frames[1:], duration=100)


@pytest.mark.parametrize(
    ('data', 'size', 'color'),
    [
        (encoded(half_red()), (48, 64), (255, 0, 0)),
        (encoded(half_red('CMYK'), 'JPEG', quality=95), (48, 64), (255, 0, 0)),
        (encoded(half_red('RGBA')), (48, 64), (255, 0, 0)),
        (encoded(half_red('P')), (48, 64), (255, 0, 0)),
        (encoded(half_red('1')), (48, 64), None),
        (encoded(half_red(), 'WEBP', lossless=True), (48, 64), (255, 0, 0)),
        (encoded(half_red(), 'TIFF'), (48, 64), (255, 0, 0)),
        (encoded(half_red(), 'BMP'), (48, 64), (255, 0, 0)),
        (gray_16_bits(), (48, 64), (100, 100, 100)),
        (animated(), (48, 64), (255, 0, 0)),
        (exif_rotated(), (64, 48), (255, 0, 0)),
        (encoded(Image.new('RGB', (1, 1), 'red')), (1, 1), (255, 0, 0)),
        (encoded(half_red(size=(3000, 2000)), 'JPEG'), (667, 1000), (254, 0, 0)),
    ],
    ids='png cmyk alpha palette bits webp tiff bmp 16-bit animated rotated 1x1 large'.split(),
)
def test_pictures_of_all_kinds_are_decoded_to_upright_rgb(decoder, data, size, color):
    pixels = decoder.pixels(data, 1000)
    assert pixels.shape == (*size, 3) and pixels.dtype == np.uint8
    if color is not None:
        assert np.abs(pixels[0, 0].astype(int) - color).max() <= 3


def transparent():
    """Corners are white below an alpha of zero, and the picture is larger than what is asked for."""
    image = Image.new('RGBA', (3000, 2000), (255, 255, 255, 0))
    image.paste((255, 0, 0, 255), (1000, 500, 2000, 1500))
    return image


@pytest.mark.parametrize('mode', ['RGBA', 'LA', 'P', '1', 'RGB', 'L'])
def test_large_pictures_are_reduced_as_what_the_store_reads_of_them(decoder, mode):
    image = transparent()
    if mode not in ('RGBA', 'LA'):
        image = image.convert('RGB')
    data = encoded(image.convert(mode))
    stored = Image.fromarray(decode_image(data)[:, :, ::-1])
    expected = np.array(stored.resize((900, 600), Image.Resampling.LANCZOS, reducing_gap=3.0)).astype(int)
    found = decoder.pixels(data, 900)
    assert found[0, 0].tolist() == [255, 255, 255]
    assert np.abs(found - expected).max() <= 1


SVG = b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><script>alert(1)</script></svg>'


@pytest.mark.parametrize(
    ('data', 'reason'),
    [
        (b'', 'no JPEG'),
        (b'\0' * 1000, 'no JPEG'),
        (b'<html><script>alert(1)</script></html>', 'no JPEG'),
        (SVG, 'no JPEG'),
        (bomb(30_000, 30_000), '30,000 x 30,000 = 900,000,000 pixels'),
        (encoded(half_red(size=(400, 300)), 'JPEG')[:2000], 'damaged'),
        (bomb(7000, 7000), 'damaged'),
        (encoded(Image.new('F', (9, 9)), 'TIFF'), 'more than 16 bits'),
        (encoded(Image.new('I', (9, 9), 1 << 20), 'TIFF'), 'more than 16 bits'),
    ],
    ids='empty zeros html svg bomb truncated short float 32-bit'.split(),
)
def test_what_is_no_picture_or_too_large_is_refused(decoder, data, reason):
    with pytest.raises(UnreadablePicture, match=reason):
        decoder.pixels(data, 1000)
    assert decoder.pixels(encoded(half_red()), 100).shape == (48, 64, 3)


def test_a_picture_beyond_the_memory_or_the_time_is_refused_and_the_next_one_decoded():
    decoder = Decoder(1, memory=200 << 20)
    try:
        with pytest.raises(UnreadablePicture, match='memory|damaged'):
            decoder.pixels(encoded(Image.new('RGB', (7000, 7000))), 1000)
        assert decoder.pixels(encoded(half_red()), 100).shape == (48, 64, 3)
        decoder.seconds = 0.02
        with pytest.raises(UnreadablePicture, match='more than 0.02 s'):
            decoder.pixels(encoded(Image.new('RGB', (3000, 3000))), 1000)
        decoder.seconds = 20
        assert decoder.pixels(encoded(half_red()), 100).shape == (48, 64, 3)
    finally:
        decoder.close()


@pytest.fixture(scope='module')
def client(server):
    with httpx2.Client(base_url=server) as client:
        yield client


def send(client, data, name='a.png', **options):
    return client.post('/api/stores/toys/search', files={'picture': (name, data)}, **options)


def is_up(client):
    return send(client, encoded(half_red())).status_code == 200


@pytest.mark.parametrize(
    'name', ['../../etc/passwd', 'a\0b.png', 'a\nb.png', 'a"b<script>.png', '/etc/passwd', 'x' * 400]
)
def test_names_of_uploads_mean_nothing(client, name):
    address = client.post('/queries', files={'picture': (name, encoded(half_red()))}).headers['location']
    page = client.get(address)
    assert page.status_code == 200 and '<script>.png' not in page.text


def raw(server, *parts, pause=0.0):
    """The answer to bytes as they are."""
    host, port = server.removeprefix('http://').split(':')
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        try:
            for part in parts:
                connection.sendall(part)
                time.sleep(pause)
        except (BrokenPipeError, ConnectionResetError):
            pass
        try:
            return connection.recv(4096)
        except ConnectionResetError:
            return b''


def head(server, length):
    host = server.removeprefix('http://')
    return (
        f'POST /queries HTTP/1.1\r\nHost: {host}\r\nContent-Type: multipart/form-data; boundary=X\r\n{length}\r\n'
        'Connection: close\r\n\r\n'
    ).encode()


PART = b'--X\r\nContent-Disposition: form-data; name="picture"; filename="a.png"\r\n\r\n'


def test_a_name_that_is_no_utf_8_is_taken(client, server):
    data = encoded(half_red())
    body = PART.replace(b'a.png', b'a\xff\xfe.png') + data + b'\r\n--X--\r\n'
    assert raw(server, head(server, f'Content-Length: {len(body)}'), body).startswith(b'HTTP/1.1 303')


def test_large_uploads_are_cut_off(client, server):
    assert raw(server, head(server, 'Content-Length: 200000000'), PART).startswith(b'HTTP/1.1 413')
    assert raw(server, head(server, 'Content-Length: -5'), PART).startswith(b'HTTP/1.1 4')
    sent = 0

    def endless():
        nonlocal sent
        yield PART
        while sent < 200_000_000:
            yield bytes(100_000)
            sent += 100_000

    headers = {'Content-Type': 'multipart/form-data; boundary=X'}
    try:
        assert client.post('/queries', content=endless(), headers=headers).status_code == 413
    except httpx2.TransportError:
        pass  # the server has closed the connection
    assert sent < 50_000_000 and is_up(client)


def test_slow_uploads_end(client, server):
    start = time.monotonic()
    answer = raw(server, head(server, 'Content-Length: 1000'), *([PART] + [b'a'] * 5), pause=0.6)
    assert answer.startswith(b'HTTP/1.1 408') and time.monotonic() - start < 10 and is_up(client)


def test_a_thousand_parts_are_refused(client):
    data = encoded(half_red())
    texts = client.post('/queries', files={'picture': data}, data={f'field {n}': 'a' for n in range(1000)})
    files = client.post('/queries', files=[('picture', data)] * 1000)
    assert (texts.status_code, files.status_code) == (400, 400) and is_up(client)


def test_an_empty_file_is_called_so(client):
    answer = client.post('/api/stores/toys/search', files={'picture': ('a.jpg', b'')})
    assert answer.status_code == 400 and answer.json()['error'] == 'the file is empty; send a picture'


def test_what_is_no_form_is_refused(client):
    for content, kind in (
        (b'', 'multipart/form-data; boundary=X'),
        (b'garbage', 'multipart/form-data; boundary=X'),
        (b'garbage', 'multipart/form-data'),
        (b'{}', 'application/json'),
        (b'picture=text', 'application/x-www-form-urlencoded'),
    ):
        assert client.post('/queries', content=content, headers={'Content-Type': kind}).status_code == 400
    assert is_up(client)
