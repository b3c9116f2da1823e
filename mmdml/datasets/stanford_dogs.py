"""Stanford Dogs."""

import os.path as osp

import numpy as np

from mmdml.datasets.base import RetrievalDataset
from mmdml.datasets.official_files import read_matlab, require_parts, split_by_class, whole_numbers
from mmdml.datasets.samples import Samples
from mmdml.registry import DATASETS


@DATASETS.register_module()
class StanfordDogs(RetrievalDataset):
    """Stanford Dogs (Khosla, Jayadevaprakash, Yao, Fei-Fei, FGVC workshop, CVPR 2011), read from the official files.

    Breeds 1 to 60 train, 61 to 120 test (each image is query and gallery), over all 20,580 images of
    ``file_list.mat``. A class name is the breed in the folder name (``'Chihuahua'`` of ``n02085620-Chihuahua``). All
    images are from ImageNet: weights trained on ImageNet have seen them with their labels. The folder must hold
    ``file_list.mat`` and ``Images/``.

    Args:
        data_root: folder with the official files.
        kwargs: see :class:`mmdml.datasets.base.RetrievalDataset`.

    Raises:
        FileNotFoundError: the folder is not there or not complete.
        ValueError: a list that cannot be read.

    Config::

        dataset = dict(type='StanfordDogs', data_root='data/stanford_dogs', split='train', pipeline=[...])
    """

    #: Classes and images of all splits together; the halves have no published counts.
    COUNTS = {'all': (120, 20580)}

    def __init__(self, data_root: str = 'data/stanford_dogs', **kwargs) -> None:
        kwargs.setdefault('data_prefix', 'Images')
        super().__init__(data_root=data_root, **kwargs)

    def load_samples(self) -> Samples:
        """Read the MATLAB file."""
        require_parts(
            'StanfordDogs',
            self.data_root,
            ('file_list.mat', 'Images'),
            'http://vision.stanford.edu/aditya86/ImageNetDogs/ (lists.tar and images.tar)',
        )
        path = osp.join(self.data_root, 'file_list.mat')
        content = read_matlab(path, ('file_list', 'labels'))
        paths, ids = [str(image) for image in content['file_list']], whole_numbers(path, 'label', content['labels'])
        if len(paths) != len(ids):
            raise ValueError(f'{osp.abspath(path)} has {len(paths)} images in file_list, but {len(ids)} labels')
        name_of = {number: image.split('/')[0].split('-', 1)[-1] for number, image in zip(ids, paths, strict=True)}
        order = sorted(name_of)
        classes = [name_of[number] for number in order]
        return split_by_class(self.split, paths, np.searchsorted(order, ids), classes, num_train=60)
