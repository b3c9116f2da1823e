"""Pictures through a test pipeline, read ahead in threads."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any

from mmengine.dataset import Compose

from mmdml.apis.image_inputs import ImageInput, decoded
from mmdml.datasets.transforms import LoadImageFromFile
from mmdml.registry import TRANSFORMS


class ImageReader:
    """Load and prepare pictures, several at a time.

    Args:
        pipeline: transforms, as configs or callables. Where the first one loads no file, as in datasets that hold their
            images in memory, loading comes before it.
        workers: threads; OpenCV and Pillow decode and resize outside of Python's lock.
        gray: load without colors where the pipeline does not load.
    """

    def __init__(self, pipeline: Sequence[dict | Callable], workers: int, gray: bool) -> None:
        transforms = [TRANSFORMS.build(each) if isinstance(each, dict) else each for each in pipeline]
        if not transforms or not hasattr(transforms[0], 'color_type'):
            transforms.insert(0, LoadImageFromFile(color_type='grayscale' if gray else 'color'))
        #: Built transforms, the first of which loads.
        self.transforms = transforms
        self._load, self._prepare = transforms[0], Compose(transforms[1:])
        self.workers = workers

    def read_ahead(self, images: Iterator[ImageInput], number: int) -> Iterator[tuple[ImageInput, Future]]:
        """Yield pictures in their order with what :meth:`read` will return, up to ``number`` of them in work."""
        pool = ThreadPoolExecutor(self.workers, thread_name_prefix='read images')
        try:
            waiting = deque((each, pool.submit(self.read, each)) for each in islice(images, number))
            while waiting:
                yield waiting.popleft()
                waiting.extend((each, pool.submit(self.read, each)) for each in islice(images, 1))
        finally:
            pool.shutdown(cancel_futures=True)

    def read(self, image: ImageInput) -> dict[str, Any]:
        """Return the pipeline's output for a picture.

        Raises:
            ValueError: it is no picture that can be decoded, or the pipeline returned nothing; other errors as the
                transforms raise them.
        """
        if isinstance(image.source, str):
            data = self._load(dict(img_path=image.source))
        else:
            pixels = decoded(image.source, self._load.color_type == 'grayscale')
            data = dict(img=pixels, img_shape=pixels.shape[:2], ori_shape=pixels.shape[:2], img_path=image.name)
        data = None if data is None else self._prepare(data)
        if data is None:
            raise ValueError('the pipeline returned None')
        return data
