"""Omniglot, the dataset that comes with the package."""

import os.path as osp
from functools import lru_cache

import numpy as np

from mmdml.datasets.base import RetrievalDataset
from mmdml.datasets.samples import Samples
from mmdml.registry import DATASETS

PACKAGED_ARCHIVE = osp.join(osp.dirname(__file__), 'data', 'omniglot', 'omniglot.npz')

#: Width and height of the original drawings, in pixels.
ORIGINAL_SIZE = 105


@DATASETS.register_module()
class Omniglot(RetrievalDataset):
    """Omniglot (Lake, Salakhutdinov, Tenenbaum, Science 350, 2015): handwritten characters, 20 drawings each.

    964 characters of 30 alphabets train (19,280 images), 659 of 20 other alphabets test (13,180 images; each is query
    and gallery): the authors' background and evaluation sets. The whole dataset is in the package, in the original
    resolution; it is reduced by area averaging when it is loaded (under a second), once a process, and forked workers
    share the pixels.

    A data info carries ``img``, ``(image_size, image_size)`` uint8, **white strokes on black** (the originals are
    black on white, and augmentation fills with black), so the pipeline needs no loading transform. ``img_path`` is the
    original name.

    Args:
        image_size: width and height in pixels, 1 to 105.
        data_root: folder with another ``omniglot.npz``; None for the one in the package.
        kwargs: see :class:`mmdml.datasets.base.RetrievalDataset`.

    Raises:
        FileNotFoundError: no archive.
        ValueError: ``image_size`` out of range.

    Config::

        dataset = dict(type='Omniglot', split='train', pipeline=[dict(type='mmpretrain.PackInputs')])
    """

    #: Classes and images of each split.
    COUNTS = {'train': (964, 19280), 'test': (659, 13180)}

    opens_files = False

    def __init__(self, image_size: int = 28, data_root: str | None = None, **kwargs) -> None:
        if not 0 < image_size <= ORIGINAL_SIZE:
            raise ValueError(f'image_size={image_size} of Omniglot must be in 1..{ORIGINAL_SIZE}')
        self.image_size = image_size
        self.archive = osp.join(data_root, 'omniglot.npz') if data_root else PACKAGED_ARCHIVE
        super().__init__(**kwargs)

    def load_samples(self) -> Samples:
        """Read names and classes, and decode the pixels before any worker is forked."""
        if not osp.isfile(self.archive):
            raise FileNotFoundError(
                f'Omniglot looks for {osp.abspath(self.archive)}; it is part of the package: install it again, or run '
                f'mmdml prepare Omniglot downloads {self.data_root or "data/omniglot"}'
            )
        paths = self._decode()[0]
        # images_background/<alphabet>/<character>/<drawing>.png, in label order.
        names, labels = np.unique([osp.dirname(path).split('/', 1)[1] for path in paths], return_inverse=True)
        alphabets = [osp.basename(osp.dirname(osp.dirname(path))) for path in paths]
        return Samples(paths, labels, names.tolist(), columns=dict(alphabet=alphabets))

    def load_data_list(self) -> list:
        """Return data infos with the row of each image in the decoded array."""
        infos = super().load_data_list()
        row_of = {path: row for row, path in enumerate(self._decode()[0])}
        for info in infos:
            info['img_row'] = row_of[info['img_path']]
        return infos

    def open_image(self, data_info: dict) -> dict:
        """Add the pixels: a copy, so that no transform can change the shared array."""
        image = self._decode()[1][data_info.pop('img_row')].copy()
        data_info.update(img=image, img_shape=image.shape, ori_shape=image.shape)
        return data_info

    def _decode(self) -> tuple[tuple[str, ...], np.ndarray]:
        return read_archive(self.archive, 'test' if self.split == 'test' else 'train', self.image_size)


@lru_cache(maxsize=4)
def read_archive(path: str, part: str, image_size: int) -> tuple[tuple[str, ...], np.ndarray]:
    """Names and pixels of one part of the archive.

    Args:
        path: ``omniglot.npz``: for each part ``<part>_names`` ``(N,)`` bytes and ``<part>_images`` ``(N, 105, 14)``
            uint8, a bit for each pixel (1: stroke), rows filled to whole bytes.
        part: ``'train'`` or ``'test'``.
        image_size: width and height to reduce to.

    Returns:
        Original names, and ``(N, image_size, image_size)`` uint8 with strokes 255, read-only.
    """
    with np.load(path, allow_pickle=False) as archive:
        names = tuple(name.decode() for name in archive[f'{part}_names'].tolist())
        packed = archive[f'{part}_images']
    images = np.empty((len(packed), image_size, image_size), dtype=np.uint8)
    for start in range(0, len(packed), 512):
        strokes = np.unpackbits(packed[start : start + 512], axis=-1, count=ORIGINAL_SIZE)
        images[start : start + 512] = area_average(strokes, image_size)
    images.flags.writeable = False
    return names, images


def area_average(strokes: np.ndarray, size: int) -> np.ndarray:
    """Reduce by area averaging, exactly: ``W X W^T / S^2`` with whole-number overlaps ``W`` in units of 1/size pixel.

    Args:
        strokes: ``(N, S, S)`` of 0 and 1.
        size: new width and height.

    Returns:
        ``(N, size, size)`` uint8 in 0..255, rounded to the nearest; the same on every machine.
    """
    original = strokes.shape[-1]
    low = np.arange(size)[:, None] * original
    pixel = np.arange(original)[None, :] * size
    overlap = np.minimum(low + original, pixel + size) - np.maximum(low, pixel)
    weight = overlap.clip(min=0).astype(np.float32)
    # All products and sums are whole numbers up to S^2 < 2^24, which fp32 holds exactly in any order of summation.
    covered = np.matmul(weight, np.matmul(strokes.astype(np.float32), weight.T)).astype(np.int64)
    full = original * original
    return ((covered * 255 * 2 + full) // (2 * full)).astype(np.uint8)
