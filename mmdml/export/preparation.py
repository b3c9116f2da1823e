"""From a picture file to the input of an exported model, as the test pipeline does it, without mmcv and torch."""

from dataclasses import asdict, dataclass, field
from typing import Any

import cv2
import numpy as np
from PIL import Image

from mmdml.utils.image_decoding import COLOR_TYPES, decode_image
from mmdml.utils.image_files import MAX_PIXELS, require_regular

_CV2 = dict(
    nearest=cv2.INTER_NEAREST,
    bilinear=cv2.INTER_LINEAR,
    bicubic=cv2.INTER_CUBIC,
    area=cv2.INTER_AREA,
    lanczos=cv2.INTER_LANCZOS4,
)
_PILLOW = dict(
    nearest=Image.Resampling.NEAREST,
    bilinear=Image.Resampling.BILINEAR,
    bicubic=Image.Resampling.BICUBIC,
    box=Image.Resampling.BOX,
    lanczos=Image.Resampling.LANCZOS,
    hamming=Image.Resampling.HAMMING,
)


def resize_edge(image: np.ndarray, scale: int, edge: str, backend: str, interpolation: str) -> np.ndarray:
    """Resize so that the ``'short'`` or ``'long'`` edge, ``'width'`` or ``'height'`` is ``scale``; the ratio stays."""
    height, width = image.shape[:2]
    if edge == 'width' or (edge == 'short' and width < height) or (edge == 'long' and width > height):
        size = scale, int(scale * height / width)
    else:
        size = int(scale * width / height), scale
    return _resized(image, size, backend, interpolation)


def resize(image: np.ndarray, size: tuple[int, int], keep_ratio: bool, backend: str, interpolation: str) -> np.ndarray:
    """Resize to ``size`` (width, height), or to the largest size of the same ratio that fits into it."""
    if keep_ratio:
        height, width = image.shape[:2]
        factor = min(max(size) / max(height, width), min(size) / min(height, width))
        size = int(width * factor + 0.5), int(height * factor + 0.5)
    return _resized(image, size, backend, interpolation)


def center_crop(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Cut ``size`` (width, height) out of the middle; a side that is shorter stays."""
    height, width = image.shape[:2]
    across, down = min(size[0], width), min(size[1], height)
    top, left = round((height - down) / 2), round((width - across) / 2)
    return image[top : top + down, left : left + across]


#: Steps by the name that they have in an exported file.
STEPS = dict(resize_edge=resize_edge, resize=resize, center_crop=center_crop)


@dataclass(frozen=True)
class Preparation:
    """How a picture is read and brought to the size of the model's input.

    What follows, normalization included, is part of the exported graph.

    Attributes:
        height: of the input, in pixels.
        width: of the input, in pixels.
        color_type: ``'color'`` or ``'grayscale'``.
        steps: names of :data:`STEPS`, each with its arguments.
        max_pixels: a picture of more is refused before it is decoded.
        significant_bits: of 16-bit pictures, see :func:`~mmdml.utils.image_decoding.decode_image`.

    Raises:
        ValueError: an unknown step or color type.
    """

    height: int
    width: int
    color_type: str = 'color'
    steps: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    max_pixels: int | None = MAX_PIXELS
    significant_bits: int | None = None

    def __post_init__(self) -> None:
        for name, known in [(self.color_type, COLOR_TYPES), *((step, STEPS) for step, _ in self.steps)]:
            if name not in known:
                raise ValueError(f'the exported file needs {name!r}; this version of mmdml knows {", ".join(known)}')

    @property
    def gray(self) -> bool:
        """Whether pictures have one channel."""
        return self.color_type == 'grayscale'

    @property
    def shape(self) -> tuple[int, int, int]:
        """``(H, W, C)`` of an input."""
        return self.height, self.width, 1 if self.gray else 3

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, from which ``Preparation(**values)`` makes an equal one."""
        return asdict(self)

    def read(self, path: str) -> np.ndarray:
        """Return the pixels of a file: ``(H, W, 3)`` uint8 in the order blue, green, red, or ``(H, W)``.

        Raises:
            ValueError: it is no picture that can be decoded, or too large; a pipe or a device.
            OSError: it cannot be read.
        """
        require_regular(path)
        with open(path, 'rb') as file:
            return decode_image(file.read(), self.color_type, self.max_pixels, self.significant_bits)

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """Return the input of the graph, ``(H, W, C)`` uint8, colors in the order red, green, blue.

        Args:
            pixels: as :meth:`read` returns them.

        Raises:
            ValueError: the picture cannot be brought to the size of the input.
        """
        for step, options in self.steps:
            pixels = STEPS[step](pixels, **options)
        pixels = pixels.reshape(*pixels.shape[:2], -1)[:, :, ::-1]
        if pixels.shape != self.shape:
            given = ' x '.join(map(str, pixels.shape))
            raise ValueError(f'it is {given}; the exported model takes {" x ".join(map(str, self.shape))}')
        return np.ascontiguousarray(pixels)


def _resized(image: np.ndarray, size: tuple[int, int], backend: str, interpolation: str) -> np.ndarray:
    if min(size) < 1:
        raise ValueError(f'it is {image.shape[1]} x {image.shape[0]} pixels: too narrow to be resized')
    if backend == 'pillow':
        return np.array(Image.fromarray(image).resize(size, _PILLOW[interpolation]))
    return cv2.resize(image, size, interpolation=_CV2[interpolation])
