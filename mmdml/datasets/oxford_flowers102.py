"""Oxford 102 Flowers."""

import os.path as osp

import numpy as np

from mmdml.datasets.base import RetrievalDataset
from mmdml.datasets.official_files import read_matlab, require_parts, split_by_class, whole_numbers
from mmdml.datasets.samples import Samples
from mmdml.registry import DATASETS

_NUM_CLASSES = 102


@DATASETS.register_module()
class OxfordFlowers102(RetrievalDataset):
    """Oxford 102 Flowers (Nilsback, Zisserman, ICVGIP 2008), read from the official files.

    Classes 1 to 51 train, 52 to 102 test (each image is query and gallery), over all 8,189 images: the authors' own
    sets (``setid.mat``) contain all classes and are not what retrieval uses. A class name is the official number; the
    authors give no names. The folder must hold ``imagelabels.mat`` and ``jpg/``.

    Args:
        data_root: folder with the official files.
        kwargs: see :class:`mmdml.datasets.base.RetrievalDataset`.

    Raises:
        FileNotFoundError: the folder is not there or not complete.
        ValueError: a label file that cannot be read, or a class out of range.

    Config::

        dataset = dict(type='OxfordFlowers102', data_root='data/flowers102', split='train', pipeline=[...])
    """

    #: Classes and images of all splits together; the halves have no published counts.
    COUNTS = {'all': (102, 8189)}

    def __init__(self, data_root: str = 'data/flowers102', **kwargs) -> None:
        kwargs.setdefault('data_prefix', 'jpg')
        super().__init__(data_root=data_root, **kwargs)

    def load_samples(self) -> Samples:
        """Read the MATLAB file."""
        require_parts(
            'OxfordFlowers102',
            self.data_root,
            ('imagelabels.mat', 'jpg'),
            'https://www.robots.ox.ac.uk/~vgg/data/flowers/102/ (imagelabels.mat and 102flowers.tgz)',
        )
        path = osp.join(self.data_root, 'imagelabels.mat')
        labels = whole_numbers(path, 'label', read_matlab(path, ('labels',))['labels']) - 1
        images = [f'image_{number:05d}.jpg' for number in range(1, len(labels) + 1)]
        wrong = np.flatnonzero((labels < 0) | (labels >= _NUM_CLASSES))
        if len(wrong):
            image, found = images[wrong[0]], labels[wrong[0]] + 1
            raise ValueError(f'{osp.abspath(path)}: {image} has class {found}, expected 1 to {_NUM_CLASSES}')
        classes = [str(number) for number in range(1, _NUM_CLASSES + 1)]
        return split_by_class(self.split, images, labels, classes, num_train=51)
