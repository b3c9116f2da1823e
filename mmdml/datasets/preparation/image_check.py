"""Whether every image of a dataset opens as a whole."""

import itertools
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
from mmengine.fileio import get

from mmdml.datasets.base import RetrievalDataset
from mmdml.utils.image_files import MAX_PIXELS, check_pixels, require_regular
from mmdml.utils.progress import ProgressLine

# Second bytes of the marks of a JPEG (ISO/IEC 10918-1, table B.1).
_START_OF_SCAN = 0xDA
_NO_MARK = (0x00, 0xFF)
_WITHOUT_LENGTH = (0x01, *range(0xD0, 0xDA))

_SLICE = 1000


def image_problem(path: str, max_pixels: int | None = MAX_PIXELS) -> str:
    """Say why OpenCV does not read an image as a whole, or why it should not; ``''`` if it does.

    Args:
        path: of the image.
        max_pixels: limit of width times height.
    """
    try:
        require_regular(path)
        data = get(path)
    except OSError as error:
        return 'is missing' if isinstance(error, FileNotFoundError) else f'cannot be read: {error.strerror or error}'
    except ValueError as error:
        return f'is refused: {error}'
    return _problem_of(data, max_pixels)


def _problem_of(data: bytes, max_pixels: int | None) -> str:
    """Say the same of the content of a file."""
    try:
        check_pixels(data, max_pixels)
    except ValueError as error:
        return f'is refused: {error}'
    if not data:
        return 'is empty'
    # OpenCV 5 refuses such an image, OpenCV 4 fills it up with gray.
    if data[:2] == b'\xff\xd8' and is_cut_jpeg(data):
        return 'is cut short'
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        return f'cannot be decoded: {error}'.strip()
    if image is None:
        return f'is no picture that OpenCV decodes; it begins with {data[:8]!r}'
    return ''


def is_cut_jpeg(data: bytes) -> bool:
    """Whether a JPEG has no end mark behind the start of its first scan.

    Segments are skipped by their lengths: the thumbnail in one of them is a JPEG, with marks of its own, and so may be
    what follows the end mark (a film, other images), which is no fault.
    """
    at = 2
    # Each turn begins at a mark, after fill bytes or garbage that decoders skip as well.
    while (at := data.find(b'\xff', at)) >= 0 and at + 1 < len(data):
        mark = data[at + 1]
        if mark == _START_OF_SCAN:
            return data.find(b'\xff\xd9', at) < 0
        if mark in _NO_MARK:
            at += 1
        elif mark in _WITHOUT_LENGTH:
            at += 2
        else:
            at += 2 + int.from_bytes(data[at + 2 : at + 4], 'big')
    return True


def distinct_images(datasets: Iterable[RetrievalDataset]) -> dict[str, tuple[RetrievalDataset, int]]:
    """Return each distinct path of some datasets, with a dataset and the index that the image has there."""
    found: dict[str, tuple[RetrievalDataset, int]] = {}
    for dataset in datasets:
        for index in range(len(dataset)):
            found.setdefault(dataset.get_data_info(index)['img_path'], (dataset, index))
    return found


def open_images(
    images: dict[str, tuple[RetrievalDataset, int]], num_workers: int, max_pixels: int | None = MAX_PIXELS
) -> list[tuple[str, str]]:
    """Open images, and return path and problem of every broken one, in the order they are given.

    Args:
        images: see :func:`distinct_images`.
        num_workers: images to open at a time.
        max_pixels: limit of width times height.
    """

    def problem(item: tuple[str, tuple[RetrievalDataset, int]]) -> tuple[str, str]:
        path, (dataset, index) = item
        try:
            info = dataset.open_image(dataset.get_data_info(index))
        except (OSError, ValueError) as error:
            return path, f'cannot be read: {error}'
        # Pixels that the dataset holds in memory need no file, nor do the bytes of a part of one.
        if 'img' in info:
            return path, ''
        if 'img_bytes' in info:
            return path, _problem_of(info['img_bytes'], max_pixels)
        return path, image_problem(path, max_pixels)

    broken = []
    # OpenCV decodes outside Python's lock, so threads are enough.
    with ThreadPoolExecutor(num_workers) as pool, ProgressLine('images', len(images)) as progress:
        for part in _slices(iter(images.items())):
            for result in pool.map(problem, part):
                progress.add(1)
                if result[1]:
                    broken.append(result)
    return broken


def _slices(items: Iterator) -> Iterator[list]:
    # A pool queues all that it gets at once.
    while part := list(itertools.islice(items, _SLICE)):
        yield part
