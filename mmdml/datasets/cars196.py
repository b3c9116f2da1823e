"""Stanford Cars (Cars-196)."""

import os.path as osp

import numpy as np

from mmdml.datasets.base import RetrievalDataset, Samples
from mmdml.datasets.official_files import read_matlab, require_parts, split_by_class
from mmdml.registry import DATASETS


@DATASETS.register_module()
class Cars196(RetrievalDataset):
    """Cars-196 (Krause, Stark, Deng, Fei-Fei, 3dRR workshop, ICCV 2013), read from the official files.

    Classes 1 to 98 train (8,054 images), 99 to 196 test (8,131 images; each is query and gallery), over all 16,185
    images: the authors' own training and test images (field ``test`` of the annotations) contain all classes alike and
    are not what retrieval uses. The folder must hold ``cars_annos.mat`` and ``car_ims/``; whole pictures are used, not
    the bounding boxes.

    Args:
        data_root: folder with the official files.
        kwargs: see :class:`mmdml.datasets.base.RetrievalDataset`.

    Raises:
        FileNotFoundError: the folder is not there or not complete.
        ValueError: an annotation file that cannot be read, has other fields, or a class out of range.

    Example:
        >>> dataset = dict(type='Cars196', data_root='data/cars196', split='train', pipeline=[...])
    """

    #: Classes and images of each split.
    COUNTS = {'train': (98, 8054), 'test': (98, 8131)}

    def __init__(self, data_root: str = 'data/cars196', **kwargs) -> None:
        super().__init__(data_root=data_root, **kwargs)

    def load_samples(self) -> Samples:
        """Read the MATLAB file."""
        require_parts(
            'Cars196',
            self.data_root,
            ('cars_annos.mat', 'car_ims'),
            'https://ai.stanford.edu/~jkrause/cars/car_dataset.html (cars_annos.mat and car_ims.tgz)',
        )
        path = osp.join(self.data_root, 'cars_annos.mat')
        paths, labels, names = _read_annotations(path)
        wrong = np.flatnonzero((labels < 0) | (labels >= len(names)))
        if len(wrong):
            raise ValueError(
                f'{osp.abspath(path)}: image {paths[wrong[0]]} has class {labels[wrong[0]] + 1}, but class_names has '
                f'{len(names)} names, for classes from 1'
            )
        return split_by_class(self.split, paths, labels, names, num_train=98)


def _read_annotations(path: str) -> tuple[list[str], np.ndarray, list[str]]:
    """Image paths, ``(N,)`` labels from 0, and class names."""
    note = ' (it must be cars_annos.mat, not cars_train_annos.mat of the devkit)'
    content = read_matlab(path, ('annotations', 'class_names'), note)
    annotations = content['annotations']
    fields = annotations.dtype.names or ()
    if not {'relative_im_path', 'class'}.issubset(fields):
        raise ValueError(
            f'{osp.abspath(path)} must hold annotations with the fields relative_im_path and class; '
            f'it has {list(fields)}{note}'
        )
    names = [str(name) for name in content['class_names']]
    return [str(image) for image in annotations['relative_im_path']], annotations['class'].astype(np.int64) - 1, names
