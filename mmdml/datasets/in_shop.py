"""In-shop Clothes Retrieval of DeepFashion."""

import os.path as osp

import numpy as np

from mmdml.datasets.base import RetrievalDataset
from mmdml.datasets.official_files import number_classes, read_columns
from mmdml.datasets.samples import SPLITS, Samples
from mmdml.registry import DATASETS
from mmdml.structures.row_facts import GALLERY, QUERY, QUERY_AND_GALLERY

_LIST = 'list_eval_partition.txt'
_PARTS = ('train', 'query', 'gallery')
_ROLES = np.array([QUERY_AND_GALLERY, QUERY, GALLERY])
_SOURCE = 'https://mmlab.ie.cuhk.edu.hk/projects/DeepFashion/InShopRetrieval.html'


@DATASETS.register_module()
class InShop(RetrievalDataset):
    """In-shop Clothes Retrieval (Liu, Luo, Qiu, Wang, Tang, CVPR 2016), read from the official folder.

    3,997 items train (25,882 images); 3,985 others test, with 14,218 queries that search 12,612 gallery images. A class
    name is the official item id (``'id_00000001'``), and labels follow the sorted ids, so that queries and gallery
    agree whatever the order of the list.

    ``split='test'`` holds queries and gallery with their roles, which is what
    :class:`mmdml.evaluation.RetrievalMetric` needs; ``'query'`` and ``'gallery'`` are either alone, with the labels of
    ``'test'``. Both have ``split == 'test'``; ``part_name`` is what was given.

    The list is in ``Eval/`` (as distributed) or in the folder itself, ``list_eval_partition.txt``; the images are in
    ``Img/img/`` (as distributed) or ``img/``, those in high resolution in ``img_highres/`` beside it.

    Args:
        data_root: the official folder.
        split: ``'train'``, ``'val'`` (training items that are held out), ``'test'``, ``'query'`` or ``'gallery'``.
        highres: take the images of ``img_highres/``; the benchmark's figures are on ``img/`` (256 x 256).
        kwargs: see :class:`mmdml.datasets.base.RetrievalDataset`.

    Raises:
        FileNotFoundError: the list or the image folder is not there.
        ValueError: an unknown split, a wrong line (names file, line number and line), or a list that is cut short.

    Config::

        dataset = dict(type='InShop', data_root='data/in_shop', split='test', test_mode=True, pipeline=[...])
    """

    #: Classes and images of each split.
    COUNTS = {'train': (3997, 25882), 'query': (3985, 14218), 'gallery': (3985, 12612), 'test': (3985, 26830)}

    def __init__(self, data_root: str = 'data/in_shop', split: str = 'train', highres: bool = False, **kwargs) -> None:
        known = (*SPLITS, 'query', 'gallery')
        if split not in known:
            raise ValueError(f'split={split!r} of InShop is unknown, choose one of {known}')
        self.part = split
        self.highres = highres
        super().__init__(data_root=data_root, split=split if split in SPLITS else 'test', **kwargs)

    @property
    def part_name(self) -> str:
        """``split`` as it was given."""
        return self.part

    def load_samples(self) -> Samples:
        """Read the partition list."""
        paths, items, part_of = self._read_list()
        parts = np.array(part_of)
        own = np.flatnonzero(parts > 0 if self.split == 'test' else parts == 0)
        # Numbered over queries and gallery together, also where one of them is left out below.
        classes, labels = number_classes([items[i] for i in own])
        if self.part in ('query', 'gallery'):
            kept = parts[own] == _PARTS.index(self.part)
            own, labels = own[kept], labels[kept]
        folder = self._image_folder()
        return Samples([osp.join(folder, paths[i]) for i in own], labels, classes, _ROLES[parts[own]])

    def _read_list(self) -> list[list]:
        """Image paths below the image folder, item ids, and positions in ``_PARTS``."""
        choices = [osp.join('Eval', _LIST), _LIST]
        found = [choice for choice in choices if osp.isfile(osp.join(self.data_root, choice))]
        if not found:
            raise FileNotFoundError(
                f'InShop looks for {" or ".join(choices)} in {osp.abspath(self.data_root)} and finds neither. '
                f'Get Eval/{_LIST} and Img/img.zip from {_SOURCE}'
            )
        path = osp.join(self.data_root, found[0])
        columns = dict(image_name=_below_img, item_id=str, evaluation_status=_PARTS.index)
        note = ' with an image_name below img/ and an evaluation_status of train, query or gallery'
        table = read_columns(path, columns, header_line=2, note=note)
        with open(path, encoding='utf-8-sig') as file:
            count = file.readline().strip()
        if count != str(len(table[0])):
            raise ValueError(
                f'{osp.abspath(path)}, line 1: expected the number of images, {len(table[0])}, got {count!r}; '
                'the file may be cut short'
            )
        return table

    def _image_folder(self) -> str:
        """Where the images are, relative to ``data_prefix``."""
        root = self.data_prefix.get('img_path', '')
        name = 'img_highres' if self.highres else 'img'
        choices = [osp.join('Img', name), name]
        found = [choice for choice in choices if osp.isdir(osp.join(root, choice))]
        if not found:
            raise FileNotFoundError(
                f'InShop looks for the folder {" or ".join(choices)} in {osp.abspath(root)} and finds neither. '
                f'Get Img/{name}.zip from {_SOURCE} and unpack it there'
            )
        return found[0]


def _below_img(name: str) -> str:
    """``MEN/...`` of ``img/MEN/...``: the list names the images of low resolution."""
    folder, slash, rest = name.partition('/')
    if folder != 'img' or not rest:
        raise ValueError(name)
    return rest
