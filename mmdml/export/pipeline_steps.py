"""The transforms of a test pipeline as the steps of a :class:`Preparation`."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from mmdml.datasets.transforms import LoadImageFromFile
from mmdml.export.preparation import Preparation
from mmdml.utils.image_decoding import COLOR_TYPES
from mmdml.utils.seeding import Stream, numpy_generator

# Sizes of pictures, width and height, that a pipeline is tried on: both orientations, odd sides, small and large.
_SIZES = ((320, 240), (241, 333), (97, 61), (640, 480), (64, 64))


def preparation_of(transforms: Sequence[Callable], size: tuple[int, int] | None = None) -> Preparation:
    """Describe a test pipeline by steps that need neither mmcv nor torch, and check that they do the same.

    Args:
        transforms: built transforms, the first of which loads.
        size: height and width of the input, for a pipeline that does not bring pictures to one size; pictures of
            another size are refused then.

    Raises:
        ValueError: a transform that no step stands for; pictures come out in several sizes and ``size`` is None, or in
            one that is another than ``size``; an output of a step differs from the pipeline's.
    """
    load, *others = transforms
    _check_loading(load)
    steps = []
    for transform in others:
        name = type(transform).__name__
        if name not in _STEPS:
            raise ValueError(
                f'the test pipeline has {name}, which an exported file cannot hold; it can hold '
                f'{", ".join(sorted(_STEPS))}'
            )
        steps += _STEPS[name](transform)
    gray = load.color_type == 'grayscale'
    images = test_images(gray, _SIZES)
    wanted = [_run(others, image) for image in images]
    shapes = {each.shape[1:] for each in wanted}
    if size is not None:
        if len(shapes) == 1 and shapes != {tuple(size)}:
            ((height, width),) = shapes
            raise ValueError(
                f'the test pipeline brings every picture to {height} x {width} pixels, whatever its size: leave '
                f'--image-size {size[0]} out, or change the pipeline'
            )
        images = test_images(gray, [(size[1], size[0])])
        wanted = [_run(others, image) for image in images]
        shapes = {each.shape[1:] for each in wanted}
    if len(shapes) > 1:
        raise ValueError(
            'the test pipeline does not bring pictures to one size; name the size of yours with --image-size, e.g. '
            '--image-size 28, or add a resize and a crop to the pipeline'
        )
    ((height, width),) = shapes
    found = Preparation(height, width, load.color_type, steps, load.max_pixels, load.significant_bits)
    for image, planes in zip(images, wanted, strict=True):
        # PackInputs moves the channels to the front.
        if planes.dtype != np.uint8 or not np.array_equal(found(image)[:, :, ::-1], planes.transpose(1, 2, 0)):
            raise ValueError(
                f'the steps {steps} differ from the test pipeline on a picture of {image.shape[:2]} pixels'
            )
    return found


def test_images(gray: bool, sizes: Sequence[tuple[int, int]]) -> list[np.ndarray]:
    """Make uint8 pictures with large and small structure, ``(H, W, 3)`` or ``(H, W)``.

    Args:
        gray: with one channel.
        sizes: width and height of each.
    """
    import cv2

    random, images = numpy_generator(Stream.TEST_PICTURES, 0), []
    for width, height in sizes:
        coarse = random.integers(0, 256, (5, 5) if gray else (5, 5, 3), dtype=np.uint8)
        image = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC).astype(np.float32)
        images.append(np.clip(image + random.normal(0, 12, image.shape), 0, 255).astype(np.uint8))
    return images


def _run(transforms: Sequence[Callable], image: np.ndarray) -> np.ndarray:
    size = image.shape[:2]
    results = dict(img=image, img_shape=size, ori_shape=size, img_path='picture')
    for transform in transforms:
        results = transform(results)
    return results['inputs'].numpy()


def _check_loading(load: Any) -> None:
    plain = isinstance(load, LoadImageFromFile) and not load.to_float32 and load.imdecode_backend == 'cv2'
    if not plain or load.color_type not in COLOR_TYPES:
        raise ValueError(
            f'an exported file loads pictures as LoadImageFromFile with OpenCV in 8 bits does, got {load!r}'
        )


def _resize_edge(transform: Any) -> list:
    names = ('scale', 'edge', 'backend', 'interpolation')
    return [('resize_edge', {name: getattr(transform, name) for name in names})]


def _resize(transform: Any) -> list:
    if transform.scale is None:
        raise ValueError('the test pipeline has Resize with scale_factor, which an exported file cannot hold')
    names = ('keep_ratio', 'backend', 'interpolation')
    return [('resize', dict(size=list(transform.scale), **{name: getattr(transform, name) for name in names}))]


def _center_crop(transform: Any) -> list:
    if transform.auto_pad:
        raise ValueError('the test pipeline has CenterCrop with auto_pad, which an exported file cannot hold')
    return [('center_crop', dict(size=list(transform.crop_size)))]


#: What becomes of each transform.
_STEPS: dict[str, Callable[[Any], list]] = dict(
    ResizeEdge=_resize_edge, Resize=_resize, CenterCrop=_center_crop, PackInputs=lambda transform: []
)
