"""Caltech-UCSD Birds-200-2011."""

import os.path as osp
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from mmdml.datasets.base import RetrievalDataset
from mmdml.datasets.official_files import read_columns, require_parts
from mmdml.datasets.samples import Samples
from mmdml.registry import DATASETS

_PARTS = ('images.txt', 'image_class_labels.txt', 'classes.txt', 'images')


@DATASETS.register_module()
class CUB200(RetrievalDataset):
    """`CUB-200-2011 <https://data.caltech.edu/records/65de6-vp158>`_, read from the official folder.

    Classes 1 to 100 train (5,864 images), 101 to 200 test (5,924 images), in the official order; every test image is
    query and gallery. The folder must hold ``images.txt``, ``image_class_labels.txt``, ``classes.txt`` and ``images/``.

    Args:
        data_root: the official folder.
        train_classes: class ids 1 to this number train, the others test; other than 100 only for reduced copies.
        kwargs: see :class:`mmdml.datasets.base.RetrievalDataset`.

    Raises:
        FileNotFoundError: the folder is not there or not complete; says which command prepares it.
        ValueError: a broken line or an image without a class, in the official files.

    Config::

        dataset = dict(type='CUB200', data_root='data/CUB_200_2011', split='train', pipeline=[...])
    """

    #: Classes and images of each split.
    COUNTS = {'train': (100, 5864), 'test': (100, 5924)}
    #: Options that move images between the splits, and the values that ``COUNTS`` are of.
    COUNTED_WITH = {'train_classes': 100}

    def __init__(self, data_root: str = 'data/CUB_200_2011', train_classes: int = 100, **kwargs) -> None:
        self.train_classes = train_classes
        kwargs.setdefault('data_prefix', 'images')
        super().__init__(data_root=data_root, **kwargs)

    def load_samples(self) -> Samples:
        """Read the three official text files."""
        source = 'https://data.caltech.edu/records/65de6-vp158 (CUB_200_2011.tgz)'
        require_parts('CUB200', self.data_root, _PARTS, source)
        path_of = _second_by_first(osp.join(self.data_root, 'images.txt'), dict(image_id=int, path=str))
        class_of = _second_by_first(
            osp.join(self.data_root, 'image_class_labels.txt'), dict(image_id=int, class_id=int)
        )
        name_of = _second_by_first(osp.join(self.data_root, 'classes.txt'), dict(class_id=int, class_name=str))
        unlabeled = [image for image in path_of if class_of.get(image) not in name_of]
        if unlabeled:
            raise ValueError(
                f'{len(unlabeled)} images of {osp.abspath(self.data_root)}/images.txt have no class of classes.txt in '
                f'image_class_labels.txt, e.g. image {unlabeled[0]} ({path_of[unlabeled[0]]})'
            )
        class_ids = sorted(name_of)
        if not 0 < self.train_classes < len(class_ids):
            raise ValueError(
                f'train_classes={self.train_classes} must leave training and test classes of the {len(class_ids)} in '
                f'{osp.abspath(self.data_root)}; the benchmark takes 100 of 200'
            )
        own = class_ids[self.train_classes :] if self.split == 'test' else class_ids[: self.train_classes]
        position = {class_id: i for i, class_id in enumerate(own)}
        images = [image for image in sorted(path_of) if class_of[image] in position]
        labels = np.array([position[class_of[image]] for image in images], dtype=np.int64)
        return Samples([path_of[image] for image in images], labels, [name_of[class_id] for class_id in own])


def _second_by_first(path: str, columns: Mapping[str, Callable[[str], Any]]) -> dict[int, Any]:
    """Read the second column of an official list by the number in the first one."""
    return dict(zip(*read_columns(path, columns), strict=True))
