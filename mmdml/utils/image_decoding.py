"""The bytes of a picture to its pixels, without mmcv and torch."""

import io
import re
from collections.abc import Callable
from contextlib import suppress

import cv2
import numpy as np
from PIL import Image

from mmdml.utils.image_files import MAX_PIXELS, check_pixels

#: What ``color_type`` may be, and OpenCV's flag for it.
COLOR_TYPES = {'color': cv2.IMREAD_COLOR, 'grayscale': cv2.IMREAD_GRAYSCALE}

#: OpenCV's flags for a JPEG file at a part of its size.
_REDUCED = {
    'color': {2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4, 8: cv2.IMREAD_REDUCED_COLOR_8},
    'grayscale': {
        2: cv2.IMREAD_REDUCED_GRAYSCALE_2,
        4: cv2.IMREAD_REDUCED_GRAYSCALE_4,
        8: cv2.IMREAD_REDUCED_GRAYSCALE_8,
    },
}

_JPEG = b'\xff\xd8'
_PNG = b'\x89PNG\r\n\x1a\n'
# PNG, TIFF, PGM and PPM: the kinds in which images of 16 bits come.
_DEEP_KINDS = (_PNG, b'II*\0', b'MM\0*', b'P5', b'P6')
# One blank at a time: runs of them could be split in many ways, and a header that does not fit would take days.
_PNM_HEADER = re.compile(rb'P[56](?:\s|#[^\n]*\n)+\d+(?:\s|#[^\n]*\n)+\d+(?:\s|#[^\n]*\n)+(\d+)\s')


def decode_image(
    data: bytes,
    color_type: str = 'color',
    max_pixels: int | None = MAX_PIXELS,
    significant_bits: int | None = None,
    on_dark: Callable[[int], None] | None = None,
    least_side: int | None = None,
) -> np.ndarray:
    """Decode a picture with OpenCV; its EXIF orientation is applied.

    An image of 16 bits is scaled to 8 by its significant bits: those that the file states (``sBIT`` of PNG, the maximum
    of PGM and PPM), else ``significant_bits``, else 16. ``uint8 = round(255 * value / (2**bits - 1))``. The values of a
    PNG that are larger than its ``sBIT`` allows are of all 16 bits, as the standard wants them.

    Args:
        data: the file.
        color_type: ``'color'`` for ``(H, W, 3)`` in the order blue, green, red, or ``'grayscale'`` for ``(H, W)``.
        max_pixels: limit of width times height, checked in the header; None for none.
        significant_bits: bits that the values of 16-bit files use; None: as the files say, else 16.
        on_dark: called with the largest value of an image for which 16 bits are assumed and which uses 12 or fewer.
        least_side: decode a JPEG file at a half, a quarter or an eighth of its size, as long as its shorter side stays
            at least this long. None: at its own size.

    Raises:
        ValueError: the image is too large, or cannot be decoded.
    """
    check_pixels(data, max_pixels)
    flag = COLOR_TYPES[color_type]
    if least_side is not None and data.startswith(_JPEG):
        # What Pillow cannot read is decoded at its own size, or refused below.
        with suppress(OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            with Image.open(io.BytesIO(data)) as header:
                fitting = [part for part in (8, 4, 2) if min(header.size) // part >= least_side]
            flag = _REDUCED[color_type][fitting[0]] if fitting else flag
    if data.startswith(_DEEP_KINDS):
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flag | cv2.IMREAD_ANYDEPTH)
        if image is not None and image.dtype == np.uint16:
            return _to_8_bits(image, data, significant_bits, on_dark)
        if image is not None and image.dtype == np.uint8:
            return image
    image = cv2.imdecode(np.frombuffer(data, np.uint8), flag) if data else None
    if image is None:
        raise ValueError(undecodable(data))
    return image


def undecodable(data: bytes) -> str:
    """Say what is wrong with a file that no decoder takes."""
    return f'it is no picture that can be decoded; it begins with {data[:8]!r}'


def _to_8_bits(
    image: np.ndarray, data: bytes, significant_bits: int | None, on_dark: Callable[[int], None] | None
) -> np.ndarray:
    largest = _largest_value(data)
    if largest is not None and data.startswith(_PNG) and image.max() > largest:
        # The standard has values scaled up to all 16 bits, and says by sBIT how many were there before.
        largest = 2**16 - 1
    if largest is None:
        largest = 2 ** (significant_bits or 16) - 1
        if significant_bits is None and on_dark is not None and image.max() < 2**12:
            on_dark(int(image.max()))
    scaled = image.astype(np.float32) * np.float32(255 / largest)
    return np.clip(np.rint(scaled), 0, 255).astype(np.uint8)


def _largest_value(data: bytes) -> int | None:
    """Largest value that a 16-bit file says its samples may have; None if it does not say."""
    if not data.startswith(_PNG):
        header = _PNM_HEADER.match(data[:4096])
        return int(header[1]) if header and int(header[1]) > 255 else None
    at = len(_PNG)
    while at + 8 <= len(data):
        size, kind = int.from_bytes(data[at : at + 4], 'big'), data[at + 4 : at + 8]
        if kind == b'sBIT' and size:
            bits = max(data[at + 8 : at + 8 + size])
            return 2**bits - 1 if 0 < bits <= 16 else None
        if kind == b'IDAT':
            return None
        at += size + 12
    return None
