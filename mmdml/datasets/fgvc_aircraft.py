"""FGVC-Aircraft."""

import os.path as osp

import numpy as np

from mmdml.datasets.base import RetrievalDataset
from mmdml.datasets.official_files import read_columns, require_parts, split_by_class
from mmdml.datasets.samples import Samples
from mmdml.registry import DATASETS

_LISTS = ('images_variant_trainval.txt', 'images_variant_test.txt')


@DATASETS.register_module()
class FGVCAircraft(RetrievalDataset):
    """FGVC-Aircraft (Maji, Rahtu, Kannala, Blaschko, Vedaldi, 2013), read from the official folder.

    Variants 1 to 50 of ``variants.txt`` train (5,000 images), 51 to 100 test (5,000; each is query and gallery), over
    the 10,000 images of both of the authors' lists, which contain all variants alike. Every image ends in 20 rows
    with its photographer's name, which the authors ask to cut off. The folder must hold ``variants.txt``,
    ``images_variant_trainval.txt``, ``images_variant_test.txt`` and ``images/``.

    Args:
        data_root: the folder ``data`` of the official archive.
        kwargs: see :class:`mmdml.datasets.base.RetrievalDataset`.

    Raises:
        FileNotFoundError: the folder is not there or not complete.
        ValueError: a wrong line or an unknown variant in a list; names file, line number and line.

    Config::

        dataset = dict(
            type='FGVCAircraft', data_root='data/fgvc-aircraft-2013b/data', split='train', pipeline=[...])
    """

    #: Classes and images of each split.
    COUNTS = {'train': (50, 5000), 'test': (50, 5000)}

    def __init__(self, data_root: str = 'data/fgvc-aircraft-2013b/data', **kwargs) -> None:
        kwargs.setdefault('data_prefix', 'images')
        super().__init__(data_root=data_root, **kwargs)

    def load_samples(self) -> Samples:
        """Read both lists."""
        require_parts(
            'FGVCAircraft',
            self.data_root,
            ('variants.txt', *_LISTS, 'images'),
            'https://www.robots.ox.ac.uk/~vgg/data/fgvc-aircraft/ (fgvc-aircraft-2013b.tar.gz)',
        )
        variants = read_columns(osp.join(self.data_root, 'variants.txt'), dict(variant=str))[0]
        paths, labels = [], []
        for name in _LISTS:
            columns = dict(image=str, variant=variants.index)
            table = read_columns(osp.join(self.data_root, name), columns, note=' with a variant of variants.txt')
            paths += [f'{image}.jpg' for image in table[0]]
            labels += table[1]
        return split_by_class(self.split, paths, np.array(labels, dtype=np.int64), variants, num_train=50)
