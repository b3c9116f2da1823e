"""Loading images, with limits, and with all the bits they have."""

import mmcv
import numpy as np
from mmcv.transforms import LoadImageFromFile as _LoadImageFromFile
from mmengine.fileio import get
from mmengine.logging import print_log

from mmdml.registry import TRANSFORMS
from mmdml.utils.image_decoding import COLOR_TYPES, decode_image, undecodable
from mmdml.utils.image_files import MAX_PIXELS, check_pixels, require_regular
from mmdml.utils.names import printable


@TRANSFORMS.register_module()
class LoadImageFromFile(_LoadImageFromFile):
    """Load an image as MMCV's transform of this name does, with three differences.

    - An image of more than ``max_pixels`` is refused by its header, before it is decoded.
    - A pipe or a device in place of a file is refused; reading it might never end.
    - An image of 16 bits is scaled to 8 by its significant bits: those that the file states (``sBIT`` of PNG, the
      maximum of PGM and PPM), else ``significant_bits``, else 16. ``uint8 = round(255 * value / (2**bits - 1))``.
      OpenCV takes the upper 8 of 16 bits, which leaves data of 12 bits nearly black; where that is likely (16 bits are
      assumed, and no value of an image reaches 2**12) a warning says so once.

    Required key: ``img_path``; ``img_bytes``, if it is there, has the content of the file. Added keys: ``img``
    ``(H, W, C)`` uint8 BGR, or ``(H, W)`` for ``'grayscale'``, ``img_shape``, ``ori_shape``.

    Args:
        max_pixels: limit of width times height; None for none.
        significant_bits: bits that the values of 16-bit files use, 9 to 16; None: as the files say, else 16.
        least_side: decode JPEG files at a half, a quarter or an eighth of their size, as long as the shorter side stays
            at least this long: faster where images are much larger than what the next transform makes of them. The
            smaller image is not quite the resized one, so training and test must have the same. None: never.
        kwargs: see ``mmcv.transforms.LoadImageFromFile``.

    Raises:
        ValueError: an option out of range, or one of the refusals above.

    Config::

        pipeline = [dict(type='LoadImageFromFile', significant_bits=12), ...]
    """

    def __init__(
        self,
        max_pixels: int | None = MAX_PIXELS,
        significant_bits: int | None = None,
        least_side: int | None = None,
        **kwargs: object,
    ) -> None:
        super().__init__(**kwargs)
        if max_pixels is not None and max_pixels < 1:
            raise ValueError(f'max_pixels={max_pixels} must be 1 or more, or None')
        if significant_bits is not None and not 8 < significant_bits <= 16:
            raise ValueError(f'significant_bits={significant_bits} must be in 9..16, or None')
        self.max_pixels = max_pixels
        if least_side is not None and (least_side < 1 or self.imdecode_backend != 'cv2'):
            raise ValueError(f"least_side={least_side} must be 1 or more, with imdecode_backend='cv2'")
        self.least_side = least_side
        self.significant_bits = significant_bits
        self._warned = False

    def transform(self, results: dict) -> dict | None:
        """Add the image at ``results['img_path']``."""
        path = results['img_path']
        # Datasets whose images are no files of their own bring the bytes.
        data = results.pop('img_bytes', None)
        try:
            if data is None:
                require_regular(path)
                data = get(path, backend_args=self.backend_args)
            image = self.decode(data, path)
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
        if self.imdecode_backend == 'cv2' and self.color_type in COLOR_TYPES:
            return decode_image(
                data,
                self.color_type,
                self.max_pixels,
                self.significant_bits,
                lambda top: self._warn(path, top),
                self.least_side,
            )
        check_pixels(data, self.max_pixels)
        image = mmcv.imfrombytes(data, flag=self.color_type, backend=self.imdecode_backend)
        if image is None:
            raise ValueError(undecodable(data))
        return image

    def _warn(self, path: str, top: int) -> None:
        if self._warned:
            return
        self._warned = True
        print_log(
            f'{printable(path)} has 16 bits, but no value above {top:,}: as 16-bit data it is nearly '
            'black. If the data have fewer bits, say so: '
            "dict(type='LoadImageFromFile', significant_bits=12); 16 keeps it as it is",
            'current',
            level=30,
        )

    def __repr__(self) -> str:
        own = f'max_pixels={self.max_pixels}, significant_bits={self.significant_bits}, least_side={self.least_side}'
        return f'{super().__repr__()[:-1]}, {own})'
