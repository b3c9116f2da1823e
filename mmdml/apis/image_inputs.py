"""What counts as a picture: paths, folders, arrays and PIL images, singly or in any iterable."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from mmdml.utils.image_files import Scan, others_note, scan_images
from mmdml.utils.names import printable

#: A picture, a folder of pictures, or an iterable of both.
ImageInputs = Any


@dataclass(frozen=True)
class ImageInput:
    """One picture before it is decoded.

    Attributes:
        name: its path; for a picture without one, ``'image'`` and its number in the order of the inputs.
        source: the path, the array or the PIL image.
    """

    name: str
    source: str | np.ndarray | Image.Image


def image_inputs(inputs: ImageInputs) -> Iterator[ImageInput]:
    """Name the pictures in the inputs, one at a time; nothing is decoded.

    Args:
        inputs: the path of a picture; the path of a folder, for all pictures in it and below it in the order of their
            paths; a ``(H, W, 3)`` or ``(H, W)`` uint8 array, colors in the order blue, green, red as OpenCV has them; a
            PIL image; or an iterable of these, a generator for instance.

    Raises:
        TypeError: something else is among them.
        FileNotFoundError: a folder without a picture.
        OSError: a folder that cannot be read.
    """
    number = 0
    for each in _each(inputs):
        if isinstance(each, str | os.PathLike):
            path = os.fsdecode(each)
            for file in _files(path):
                yield ImageInput(file, file)
                number += 1
            continue
        if not isinstance(each, np.ndarray | Image.Image):
            raise TypeError(
                f'input {number} is of type {type(each).__name__}; a picture is a path, a folder, a uint8 array or a '
                'PIL image'
            )
        yield ImageInput(str(getattr(each, 'filename', '') or f'image {number}'), each)
        number += 1


def scan_folder(folder: str | Path) -> Scan:
    """Return the pictures in a folder and below it, and the files that are none by their names.

    Raises:
        FileNotFoundError: there is no such folder, or no picture in it.
        OSError: a folder that cannot be read.
    """
    if not os.path.isdir(folder):
        raise FileNotFoundError(f'there is no folder {printable(Path(folder).absolute())}')
    # A pipe or a broken link among them is one picture that cannot be read, no reason to refuse the others.
    found = scan_images(os.fspath(folder), regular=False)
    if not found.images:
        left_out = ''.join(f'. {note}' for note in others_note(os.fspath(folder), found.others))
        raise FileNotFoundError(f'there is no picture in {printable(Path(folder).absolute())} or below it{left_out}')
    return found


def decoded(image: np.ndarray | Image.Image, gray: bool) -> np.ndarray:
    """Return the array that loading the picture from a file would give.

    Args:
        image: a picture in memory; the orientation in EXIF data of a PIL image is applied.
        gray: for ``(H, W)`` in place of ``(H, W, 3)``.

    Raises:
        ValueError: an array of another shape or type, or without pixels; a PIL image of more than 16 bits.
    """
    if isinstance(image, Image.Image):
        return _from_pil(ImageOps.exif_transpose(image), gray)
    if image.ndim == 3 and image.shape[2] == 1:
        image = image[:, :, 0]
    if image.dtype != np.uint8 or not (image.ndim == 2 or image.ndim == 3 and image.shape[2] == 3) or not image.size:
        raise ValueError(
            f'an array must be uint8 of shape (H, W, 3) in the order blue, green, red, or (H, W); got {image.dtype} of '
            f'shape {image.shape}'
        )
    if gray and image.ndim == 3:
        import cv2

        return cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    if not gray and image.ndim == 2:
        return np.repeat(image[:, :, None], 3, axis=2)
    return np.ascontiguousarray(image)


def _each(inputs: ImageInputs) -> Iterable[Any]:
    one = isinstance(inputs, str | os.PathLike | np.ndarray | Image.Image)
    if not one and not isinstance(inputs, Iterable):
        raise TypeError(
            f'inputs is of type {type(inputs).__name__}; pass a path, a folder, a uint8 array, a PIL image or '
            'an iterable of these'
        )
    return [inputs] if one else inputs


def _files(path: str) -> list[str]:
    """Paths of the pictures in a folder; of one file, its own."""
    return [os.path.join(path, each) for each in scan_folder(path).images] if os.path.isdir(path) else [path]


def _from_pil(image: Image.Image, gray: bool) -> np.ndarray:
    if image.mode.startswith('I') or image.mode == 'F':
        values = np.asarray(image)
        if image.mode == 'F' or values.min() < 0 or values.max() > 65535:
            raise ValueError(f'a PIL image of mode {image.mode!r} has more than 16 bits; convert it to 8 bits first')
        image = Image.fromarray(np.rint(values.astype(np.float32) * np.float32(255 / 65535)).astype(np.uint8))
    if gray:
        return np.array(image.convert('L'))
    return np.ascontiguousarray(np.asarray(image.convert('RGB'))[:, :, ::-1])
