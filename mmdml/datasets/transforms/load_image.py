"""Loading images, with limits, and with all the bits they have."""

import re

import cv2
import mmcv
import numpy as np
from mmcv.transforms import LoadImageFromFile as _LoadImageFromFile
from mmengine.fileio import get
from mmengine.logging import print_log

from mmdml.datasets.image_files import MAX_PIXELS, check_pixels, require_regular
from mmdml.registry import TRANSFORMS
from mmdml.utils.names import printable

_FLAGS = {'color': cv2.IMREAD_COLOR, 'grayscale': cv2.IMREAD_GRAYSCALE}
_PNG = b'\x89PNG\r\n\x1a\n'
# PNG, TIFF, PGM and PPM: the kinds in which images of 16 bits come.
_DEEP_KINDS = (_PNG, b'II*\0', b'MM\0*', b'P5', b'P6')
_PNM_HEADER = re.compile(rb'P[56](?:\s+|#[^\n]*\n)+\d+(?:\s+|#[^\n]*\n)+\d+(?:\s+|#[^\n]*\n)+(\d+)\s')


@TRANSFORMS.register_module()
class LoadImageFromFile(_LoadImageFromFile):
    """Load an image as MMCV's transform of this name does, with three differences.

    - An image of more than ``max_pixels`` is refused by its header, before it is decoded.
    - A pipe or a device in place of a file is refused; reading it might never end.
    - An image of 16 bits is scaled to 8 by its significant bits: those that the file states (``sBIT`` of PNG, the
      maximum of PGM and PPM), else ``significant_bits``, else 16. ``uint8 = round(255 * value / (2**bits - 1))``.
      OpenCV takes the upper 8 of 16 bits, which leaves data of 12 bits nearly black; where that is likely (16 bits are
      assumed, and no value of an image reaches 2**12) a warning says so once.

    Required key: ``img_path``. Added keys: ``img`` ``(H, W, C)`` uint8 BGR, or ``(H, W)`` for ``'grayscale'``,
    ``img_shape``, ``ori_shape``.

    Args:
        max_pixels: limit of width times height; None for none.
        significant_bits: bits that the values of 16-bit files use, 9 to 16; None: as the files say, else 16.
        kwargs: see ``mmcv.transforms.LoadImageFromFile``.

    Raises:
        ValueError: an option out of range, or one of the refusals above.

    Config::

        pipeline = [dict(type='LoadImageFromFile', significant_bits=12), ...]
    """

    def __init__(
        self, max_pixels: int | None = MAX_PIXELS, significant_bits: int | None = None, **kwargs: object
    ) -> None:
        super().__init__(**kwargs)
        if max_pixels is not None and max_pixels < 1:
            raise ValueError(f'max_pixels={max_pixels} must be 1 or more, or None')
        if significant_bits is not None and not 8 < significant_bits <= 16:
            raise ValueError(f'significant_bits={significant_bits} must be in 9..16, or None')
        self.max_pixels = max_pixels
        self.significant_bits = significant_bits
        self._warned = False

    def transform(self, results: dict) -> dict | None:
        """Add the image at ``results['img_path']``."""
        path = results['img_path']
        try:
            require_regular(path)
            image = self.decode(get(path, backend_args=self.backend_args), path)
        except Exception:
            if self.ignore_empty:
                return None
            raise
        if self.to_float32:
            image = image.astype(np.float32)
        results.update(img=image, img_shape=image.shape[:2], ori_shape=image.shape[:2])
        return results

    def decode(self, data: bytes, path: str) -> np.ndarray:
        """Return the image in ``data``; the path is for messages.

        Raises:
            ValueError: the image is too large, or cannot be decoded.
        """
        check_pixels(data, self.max_pixels)
        flag = _FLAGS.get(self.color_type)
        if self.imdecode_backend == 'cv2' and flag is not None and data.startswith(_DEEP_KINDS):
            image = cv2.imdecode(np.frombuffer(data, np.uint8), flag | cv2.IMREAD_ANYDEPTH)
            if image is not None and image.dtype == np.uint16:
                return self._to_8_bits(image, data, path)
        image = mmcv.imfrombytes(data, flag=self.color_type, backend=self.imdecode_backend)
        if image is None:
            raise ValueError(f'it is no picture that can be decoded; it begins with {data[:8]!r}')
        return image

    def _to_8_bits(self, image: np.ndarray, data: bytes, path: str) -> np.ndarray:
        largest = _largest_value(data)
        if largest is None:
            largest = 2 ** (self.significant_bits or 16) - 1
            if self.significant_bits is None and image.max() < 2**12 and not self._warned:
                self._warned = True
                print_log(
                    f'{printable(path)} has 16 bits, but no value above {image.max():,}: as 16-bit data it is nearly '
                    'black. If the data have fewer bits, say so: '
                    "dict(type='LoadImageFromFile', significant_bits=12); 16 keeps it as it is",
                    'current',
                    level=30,
                )
        scaled = image.astype(np.float32) * np.float32(255 / largest)
        return np.clip(np.rint(scaled), 0, 255).astype(np.uint8)

    def __repr__(self) -> str:
        own = f'max_pixels={self.max_pixels}, significant_bits={self.significant_bits}'
        return f'{super().__repr__()[:-1]}, {own})'


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
