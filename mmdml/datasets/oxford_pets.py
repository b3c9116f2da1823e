"""Oxford-IIIT Pets."""

import os.path as osp

import numpy as np

from mmdml.datasets.base import RetrievalDataset
from mmdml.datasets.official_files import read_columns, require_parts, split_by_class
from mmdml.datasets.samples import Samples
from mmdml.registry import DATASETS


@DATASETS.register_module()
class OxfordPets(RetrievalDataset):
    """Oxford-IIIT Pets (Parkhi, Vedaldi, Zisserman, Jawahar, CVPR 2012), read from the official folder.

    Breeds 1 to 18 train, 19 to 37 test (each image is query and gallery), over all 7,349 images of
    ``annotations/list.txt``; the folder of images holds some more, which have no label. A class name is the breed in
    the file names (``'Abyssinian'``), and ``metainfo['species_of']`` says ``'cat'`` or ``'dog'`` of each. The folder
    must hold ``annotations/list.txt`` and ``images/``.

    Args:
        data_root: folder with the official files.
        kwargs: see :class:`mmdml.datasets.base.RetrievalDataset`.

    Raises:
        FileNotFoundError: the folder is not there or not complete.
        ValueError: a wrong line in the list; names file, line number and line.

    Config::

        dataset = dict(type='OxfordPets', data_root='data/oxford_pets', split='train', pipeline=[...])
    """

    #: Classes and images of all splits together; the halves have no published counts.
    COUNTS = {'all': (37, 7349)}

    def __init__(self, data_root: str = 'data/oxford_pets', **kwargs) -> None:
        kwargs.setdefault('data_prefix', 'images')
        super().__init__(data_root=data_root, **kwargs)

    def load_samples(self) -> Samples:
        """Read the list of all images."""
        part = osp.join('annotations', 'list.txt')
        require_parts(
            'OxfordPets',
            self.data_root,
            (part, 'images'),
            'https://www.robots.ox.ac.uk/~vgg/data/pets/ (annotations.tar.gz and images.tar.gz)',
        )
        columns = dict(image=_name_and_number, class_id=int, species=_species, breed_id=int)
        images, ids, species, _ = read_columns(osp.join(self.data_root, part), columns)
        breeds = [image.rsplit('_', 1)[0] for image in images]
        name_of = dict(zip(ids, breeds, strict=True))
        order = sorted(name_of)
        self._metainfo['species_of'] = dict(zip(breeds, species, strict=True))
        labels = np.searchsorted(order, ids)
        paths = [f'{image}.jpg' for image in images]
        return split_by_class(self.split, paths, labels, [name_of[number] for number in order], num_train=18)


def _name_and_number(text: str) -> str:
    """``breed_number``, of which the breed may have underscores."""
    breed, _, number = text.rpartition('_')
    if not breed or not number.isdigit():
        raise ValueError(text)
    return text


def _species(text: str) -> str:
    return ('cat', 'dog')[('1', '2').index(text)]
