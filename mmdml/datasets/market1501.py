"""Market-1501."""

import os.path as osp
import re

import numpy as np

from mmdml.datasets.base import RetrievalDataset
from mmdml.datasets.official_files import number_classes, require_parts
from mmdml.datasets.samples import Samples
from mmdml.registry import DATASETS
from mmdml.structures.row_facts import GALLERY, QUERY, QUERY_AND_GALLERY
from mmdml.utils.image_files import others_note, scan_images

#: ``0002_c1s1_000451_03.jpg``: person, camera, sequence, frame, detection.
_NAME = re.compile(r'(-1|\d{4})_c([1-6])s\d+_\d+_\d+\.\w+')
_ROLES = {'bounding_box_train': QUERY_AND_GALLERY, 'query': QUERY, 'bounding_box_test': GALLERY}


@DATASETS.register_module()
class Market1501(RetrievalDataset):
    """Market-1501 (Zheng, Shen, Tian, Wang, Wang, Tian, ICCV 2015): persons seen by six cameras, as distributed.

    751 persons train (12,936 images); 750 others test: 3,368 queries search 15,913 gallery images. A class name is the
    number in the file names (``'0002'``). Junk (person -1) is left out; the 2,798 distractors (``'0000'``, one class
    that no query belongs to) stay in the gallery. The folder must hold ``bounding_box_train/``, ``query/`` and
    ``bounding_box_test/``.

    A data info also has ``camera``, 1 to 6; put it into ``meta_keys`` to have it in the samples. The benchmark leaves
    gallery images of the query's person and camera out of each ranking: ``RetrievalMetric(groups='camera')``.

    Args:
        data_root: the official folder.
        kwargs: see :class:`mmdml.datasets.base.RetrievalDataset`.

    Raises:
        FileNotFoundError: a folder is not there.
        ValueError: an image whose name is not of the official form.

    Config::

        dataset = dict(type='Market1501', data_root='data/Market-1501-v15.09.15', split='train', pipeline=[...])
    """

    #: Classes and images of each split; the distractors are a class of the test split.
    COUNTS = {'train': (751, 12936), 'test': (751, 3368 + 15913)}

    def __init__(self, data_root: str = 'data/Market-1501-v15.09.15', **kwargs) -> None:
        super().__init__(data_root=data_root, **kwargs)

    def load_samples(self) -> Samples:
        """List the folders of the split."""
        folders = ('query', 'bounding_box_test') if self.split == 'test' else ('bounding_box_train',)
        require_parts(
            'Market1501',
            self.data_root,
            folders,
            'https://zheng-lab.cecs.anu.edu.au/Project/project_reid.html (Market-1501-v15.09.15.zip)',
        )
        paths, persons, roles, cameras, others = [], [], [], [], []
        for folder in folders:
            # The archive has a Thumbs.db in each folder, and macOS adds a ._NAME.jpg for each image.
            scan = scan_images(self.data_root, folder, recursive=False)
            others += scan.others
            for path in scan.images:
                person, camera = self._parse(path)
                if person != '-1':
                    paths.append(path)
                    persons.append(person)
                    roles.append(_ROLES[folder])
                    cameras.append(int(camera))
        classes, labels = number_classes(persons)
        return Samples(
            paths,
            labels,
            classes,
            np.array(roles, dtype=np.int64),
            columns=dict(camera=cameras),
            notes=others_note(self.data_root, others),
        )

    def _parse(self, path: str) -> tuple[str, str]:
        """Person and camera."""
        match = _NAME.fullmatch(osp.basename(path))
        if not match:
            raise ValueError(
                f'{osp.abspath(osp.join(self.data_root, path))}: expected a name like 0002_c1s1_000451_03.jpg '
                '(person, camera and sequence, frame, detection)'
            )
        return match.group(1), match.group(2)
