"""Food-101."""

import os.path as osp

import numpy as np

from mmdml.datasets.base import RetrievalDataset
from mmdml.datasets.official_files import read_columns, require_parts, split_by_class
from mmdml.datasets.samples import Samples
from mmdml.registry import DATASETS

_LISTS = (osp.join('meta', 'train.txt'), osp.join('meta', 'test.txt'))


@DATASETS.register_module()
class Food101(RetrievalDataset):
    """Food-101 (Bossard, Guillaumin, Van Gool, ECCV 2014), read from the official folder.

    Dishes 1 to 50 of ``meta/classes.txt`` train (50,000 images), 51 to 101 test (51,000; each is query and gallery),
    over the images of both of the authors' lists, which contain all dishes alike. Some images of
    ``meta/train.txt`` have wrong labels, which the authors left in on purpose. The folder must hold
    ``meta/`` and ``images/``.

    Args:
        data_root: the official folder.
        kwargs: see :class:`mmdml.datasets.base.RetrievalDataset`.

    Raises:
        FileNotFoundError: the folder is not there or not complete.
        ValueError: a wrong line or an unknown dish in a list; names file, line number and line.

    Config::

        dataset = dict(type='Food101', data_root='data/food-101', split='train', pipeline=[...])
    """

    #: Classes and images of each split.
    COUNTS = {'train': (50, 50000), 'test': (51, 51000)}

    def __init__(self, data_root: str = 'data/food-101', **kwargs) -> None:
        kwargs.setdefault('data_prefix', 'images')
        super().__init__(data_root=data_root, **kwargs)

    def load_samples(self) -> Samples:
        """Read both lists."""
        names = osp.join('meta', 'classes.txt')
        require_parts(
            'Food101',
            self.data_root,
            (names, *_LISTS, 'images'),
            'https://data.vision.ee.ethz.ch/cvl/datasets_extra/food-101/ (food-101.tar.gz)',
        )
        classes = read_columns(osp.join(self.data_root, names), {'class': str})[0]
        label_of = {name: label for label, name in enumerate(classes)}

        def read_image(text: str) -> tuple[str, int]:
            name, _, number = text.partition('/')
            if name not in label_of or not number:
                raise ValueError(text)
            return f'{text}.jpg', label_of[name]

        rows = []
        for part in _LISTS:
            note = ' with a class of classes.txt'
            rows += read_columns(osp.join(self.data_root, part), {'class/number': read_image}, note=note)[0]
        paths, labels = zip(*rows, strict=True)
        return split_by_class(self.split, paths, np.array(labels, dtype=np.int64), classes, num_train=50)
