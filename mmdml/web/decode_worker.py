"""The process that decodes pictures: little memory, no files, and it can be killed.

It reads requests from stdin and answers on stdout, each a line of JSON followed by ``length`` bytes. Nothing of torch
is loaded. Run by :class:`mmdml.web.decoder.Decoder`.
"""

import contextlib
import io
import json
import resource
import sys
import warnings
from typing import Any, BinaryIO

from PIL import Image, ImageOps, UnidentifiedImageError

#: Formats as Pillow calls them; nothing else is tried, whatever the name of the file.
FORMATS = ('JPEG', 'MPO', 'PNG', 'WEBP', 'GIF', 'BMP', 'TIFF', 'AVIF')
# All others become RGB first, as the stores read them: transparent pixels would lose their color, palettes be cut.
_REDUCED_AS_THEY_ARE = ('L', 'RGB', 'CMYK', 'YCbCr', 'LAB', 'HSV')
_NO_PICTURE = 'it is no JPEG, PNG, WebP, GIF, BMP, TIFF or AVIF picture'
_TOO_MANY_BITS = 'it has more than 16 bits; convert it to 8 bits first'


def decode(data: bytes, max_pixels: int, max_side: int) -> Image.Image:
    """Return the first frame of a picture, upright, in RGB, no side longer than ``max_side``.

    Args:
        data: the file.
        max_pixels: limit of width times height, checked by the header before anything is decoded.
        max_side: larger pictures are reduced.

    Raises:
        ValueError: it is no picture of a known format, too large, or damaged.
    """
    try:
        # A build of Pillow may lack some.
        image = Image.open(io.BytesIO(data), formats=[each for each in FORMATS if each in Image.OPEN])
    except UnidentifiedImageError:
        raise ValueError(_NO_PICTURE) from None
    if image.width * image.height > max_pixels:
        raise ValueError(
            f'it has {image.width:,} x {image.height:,} = {image.width * image.height:,} pixels, the limit is '
            f'{max_pixels:,}; make it smaller'
        )
    try:
        if image.mode not in _REDUCED_AS_THEY_ARE and not image.mode.startswith(('I', 'F')):
            image = image.convert('RGB')
        image.thumbnail((max_side, max_side), Image.Resampling.LANCZOS, reducing_gap=3.0)
        image.load()
    except MemoryError:
        raise ValueError('decoding it takes too much memory; make it smaller') from None
    except Exception as error:
        raise ValueError(f'it is damaged: {" ".join(str(error).split()) or type(error).__name__}') from None
    with contextlib.suppress(Exception):  # a broken EXIF block is no reason to refuse a picture
        image = ImageOps.exif_transpose(image)
    return _to_rgb(image)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == 'F':
        raise ValueError(_TOO_MANY_BITS)
    if image.mode.startswith('I'):
        # 16 bits to 8, rounded.
        image = image.convert('I')
        low, high = image.getextrema()
        if low < 0 or high > 65_535:
            raise ValueError(_TOO_MANY_BITS)
        image = image.point(lambda value: value * (1 / 257) + 0.5).convert('L')
    return image.convert('RGB')


def answer(request: dict[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
    """Return the header and the bytes that answer a request."""
    try:
        image = decode(data, request['max_pixels'], request['max_side'])
    except ValueError as error:
        return dict(error=str(error)), b''
    except Exception as error:
        return dict(error=f'{_NO_PICTURE} ({type(error).__name__})'), b''
    facts = dict(width=image.width, height=image.height)
    if request['as'] == 'rgb':
        return facts, image.tobytes()
    file = io.BytesIO()
    image.save(file, 'JPEG', quality=request['quality'])
    return facts, file.getvalue()


def main(source: BinaryIO, target: BinaryIO, memory: int) -> None:
    """Answer requests until there are no more."""
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    warnings.simplefilter('ignore')
    Image.MAX_IMAGE_PIXELS = None  # the request has its own limit
    Image.init()
    while line := source.readline():
        request = json.loads(line)
        header, body = answer(request, source.read(request['length']))
        target.write(json.dumps(header | dict(length=len(body))).encode() + b'\n')
        target.write(body)
        target.flush()


if __name__ == '__main__':
    main(sys.stdin.buffer, sys.stdout.buffer, int(sys.argv[1]))
