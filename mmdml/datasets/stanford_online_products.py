"""Stanford Online Products."""

import os.path as osp

from mmdml.datasets.base import RetrievalDataset
from mmdml.datasets.official_files import number_classes, read_columns, require_parts
from mmdml.datasets.samples import Samples
from mmdml.registry import DATASETS


@DATASETS.register_module()
class StanfordOnlineProducts(RetrievalDataset):
    """Stanford Online Products (Song, Xiang, Jegelka, Savarese, CVPR 2016), read from the official folder.

    11,318 products train (59,551 images), 11,316 test (60,502 images; each is query and gallery), by the official
    lists. A class name is the official class id, and classes are in the order of their ids.
    The column ``super_class`` has the super class of each image (of 12, e.g. ``'bicycle'``). The folder must hold
    ``Ebay_train.txt``, ``Ebay_test.txt`` and the twelve image folders (``bicycle_final`` and so on).

    Args:
        data_root: the official folder.
        kwargs: see :class:`mmdml.datasets.base.RetrievalDataset`.

    Raises:
        FileNotFoundError: a list or the images are not there.
        ValueError: a wrong line in a list; names file, line number and line.

    Config::

        dataset = dict(
            type='StanfordOnlineProducts', data_root='data/Stanford_Online_Products', split='train', pipeline=[...])
    """

    #: Classes and images of each split.
    COUNTS = {'train': (11318, 59551), 'test': (11316, 60502)}

    def __init__(self, data_root: str = 'data/Stanford_Online_Products', **kwargs) -> None:
        super().__init__(data_root=data_root, **kwargs)

    def load_samples(self) -> Samples:
        """Read the list of the split."""
        name = 'Ebay_test.txt' if self.split == 'test' else 'Ebay_train.txt'
        require_parts(
            type(self).__name__,
            self.data_root,
            (name,),
            'https://cvgl.stanford.edu/projects/lifted_struct/ (Stanford_Online_Products.zip)',
        )
        columns = dict(image_id=int, class_id=int, super_class_id=int, path=str)
        _, ids, _, paths = read_columns(osp.join(self.data_root, name), columns, header_line=1)
        classes, labels = number_classes(ids)
        # The list has numbers only; the folders have the names.
        super_classes = [path.split('/')[0].removesuffix('_final') for path in paths]
        return Samples(paths, labels, classes, columns=dict(super_class=super_classes))
