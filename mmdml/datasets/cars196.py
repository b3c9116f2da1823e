"""Stanford Cars (Cars-196)."""

import os.path as osp

import numpy as np

from mmdml.datasets.base import RetrievalDataset
from mmdml.datasets.official_files import read_matlab, require_parts, split_by_class, whole_numbers
from mmdml.datasets.samples import Samples
from mmdml.registry import DATASETS

_ALL_IN_ONE = ('cars_annos.mat', 'car_ims')
_WITH_LABELS = 'cars_test_annos_withlabels.mat'
_SOURCE = (
    'https://ai.stanford.edu/~jkrause/cars/car_dataset.html (cars_annos.mat and car_ims.tgz, or cars_train.tgz, '
    f'cars_test.tgz, car_devkit.tgz and {_WITH_LABELS})'
)
_NOTE = ' (it must be cars_annos.mat, not cars_train_annos.mat of the devkit)'


@DATASETS.register_module()
class Cars196(RetrievalDataset):
    """Cars-196 (Krause, Stark, Deng, Fei-Fei, 3dRR workshop, ICCV 2013), read from the official files.

    Classes 1 to 98 train (8,054 images), 99 to 196 test (8,131 images; each is query and gallery), over all 16,185
    images: the authors' own training and test images contain all classes alike and are not what retrieval uses. Whole
    images are used, not the bounding boxes. The folder must hold one of the two official layouts:

    - ``cars_annos.mat`` and ``car_ims/``;
    - ``cars_train/``, ``cars_test/``, ``devkit/`` (``cars_meta.mat``, ``cars_train_annos.mat``) and
      ``cars_test_annos_withlabels.mat``, beside ``devkit/`` or in it. The images may lie one folder deeper
      (``cars_train/cars_train/``), as some copies have them.

    Args:
        data_root: folder with the official files.
        kwargs: see :class:`mmdml.datasets.base.RetrievalDataset`.

    Raises:
        FileNotFoundError: the folder is not there or not complete.
        ValueError: an annotation file that cannot be read, has other fields, or a class out of range.

    Config::

        dataset = dict(type='Cars196', data_root='data/cars196', split='train', pipeline=[...])
    """

    #: Classes and images of each split.
    COUNTS = {'train': (98, 8054), 'test': (98, 8131)}

    def __init__(self, data_root: str = 'data/cars196', **kwargs) -> None:
        super().__init__(data_root=data_root, **kwargs)

    def load_samples(self) -> Samples:
        """Read the MATLAB files of the layout that is there."""
        if osp.isdir(osp.join(self.data_root, 'devkit')) and not osp.exists(osp.join(self.data_root, _ALL_IN_ONE[0])):
            paths, labels, names = self._read_devkit()
        else:
            require_parts('Cars196', self.data_root, _ALL_IN_ONE, _SOURCE)
            path = osp.join(self.data_root, _ALL_IN_ONE[0])
            content = read_matlab(path, ('annotations', 'class_names'), _NOTE)
            names = [str(name) for name in content['class_names']]
            paths, labels = _parse(path, content, 'relative_im_path', len(names))
        return split_by_class(self.split, paths, labels, names, num_train=98)

    def _read_devkit(self) -> tuple[list[str], np.ndarray, list[str]]:
        """Image paths, ``(N,)`` labels from 0, and class names."""
        with_labels = _WITH_LABELS
        if osp.exists(osp.join(self.data_root, 'devkit', _WITH_LABELS)):
            with_labels = osp.join('devkit', _WITH_LABELS)
        meta, train = osp.join('devkit', 'cars_meta.mat'), osp.join('devkit', 'cars_train_annos.mat')
        require_parts('Cars196', self.data_root, (meta, train, with_labels, 'cars_train', 'cars_test'), _SOURCE)
        content = read_matlab(osp.join(self.data_root, meta), ('class_names',))
        names = [str(name) for name in content['class_names']]
        paths, labels = [], []
        for folder, annotations in (('cars_train', train), ('cars_test', with_labels)):
            path = osp.join(self.data_root, annotations)
            files, own = _parse(path, read_matlab(path, ('annotations',)), 'fname', len(names))
            nested = osp.join(folder, folder)
            place = nested if osp.isdir(osp.join(self.data_root, nested)) else folder
            paths += [osp.join(place, file) for file in files]
            labels.append(own)
        return paths, np.concatenate(labels), names


def _parse(path: str, content: dict[str, np.ndarray], field: str, num_classes: int) -> tuple[list[str], np.ndarray]:
    """Image names, and ``(N,)`` labels from 0."""
    annotations = content['annotations']
    fields = annotations.dtype.names or ()
    if not {field, 'class'}.issubset(fields):
        note = _NOTE if field == 'relative_im_path' else ''
        raise ValueError(
            f'{osp.abspath(path)} must hold annotations with the fields {field} and class; it has {list(fields)}{note}'
        )
    images = [str(image) for image in annotations[field]]
    labels = whole_numbers(path, 'class of image', annotations['class']) - 1
    wrong = np.flatnonzero((labels < 0) | (labels >= num_classes))
    if len(wrong):
        raise ValueError(
            f'{osp.abspath(path)}: image {images[wrong[0]]} has class {labels[wrong[0]] + 1}, but class_names has '
            f'{num_classes} names, for classes from 1'
        )
    return images, labels
