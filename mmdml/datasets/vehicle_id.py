"""PKU VehicleID."""

import os.path as osp

from mmdml.datasets.base import RetrievalDataset
from mmdml.datasets.official_files import number_classes, read_columns, require_parts
from mmdml.datasets.samples import Samples
from mmdml.registry import DATASETS

#: Vehicles in the test list of each size.
TEST_SIZES = {'small': 800, 'medium': 1600, 'large': 2400, 'full': 13164}


@DATASETS.register_module()
class VehicleID(RetrievalDataset):
    """PKU VehicleID (Liu, Tian, Wang, Pang, Huang, CVPR 2016), read from the official folder (``VehicleID_V1.0``).

    13,164 vehicles train (113,346 images; papers cite 13,134 and 110,178); 800, 1,600 or 2,400 of the others test. One
    class a vehicle; a class name is the official vehicle id, without leading zeros as in the lists, and classes are in
    the order of their numbers. The folder must hold ``train_test_split/`` with the lists, and ``image/``.

    Every test image is query and gallery. The re-identification protocol (one random gallery image a vehicle) is a
    matter of the metric, not of the dataset.

    Vehicles whose model or color the authors labeled are in ``metainfo['model_of']`` and ``metainfo['color_of']``:
    vehicle id to the number in ``attribute/model_names.txt`` and ``color_names.txt``. Both are empty without the
    folder ``attribute/``.

    Args:
        data_root: the official folder.
        size: the test list: ``'small'`` (800 vehicles), ``'medium'`` (1,600), ``'large'`` (2,400) or ``'full'``
            (all 13,164 that do not train).
        kwargs: see :class:`mmdml.datasets.base.RetrievalDataset`.

    Raises:
        FileNotFoundError: a list or the images are not there.
        ValueError: an unknown size, or a wrong line in a list; names file, line number and line.

    Config::

        dataset = dict(
            type='VehicleID', data_root='data/VehicleID_V1.0', split='test', size='medium', pipeline=[...])
    """

    #: Classes and images of the training list and of each test list, as shipped. 'full' is the rest of all 26,328
    #: vehicles and 221,567 images that the authors' readme counts.
    COUNTS = {
        'train': (13164, 113346),
        'small': (800, 6493),
        'medium': (1600, 13377),
        'large': (2400, 19777),
        'full': (13164, 108221),
    }

    def __init__(self, data_root: str = 'data/VehicleID_V1.0', size: str = 'small', **kwargs) -> None:
        if size not in TEST_SIZES:
            raise ValueError(f'size={size!r} of VehicleID is unknown, choose one of {tuple(TEST_SIZES)}')
        self.size = size
        kwargs.setdefault('data_prefix', 'image')
        super().__init__(data_root=data_root, **kwargs)

    @property
    def part_name(self) -> str:
        """``size`` of a test list, else the split."""
        return self.size if self.split == 'test' else self.split

    def load_samples(self) -> Samples:
        """Read the list of the split."""
        name = f'test_list_{TEST_SIZES[self.size]}.txt' if self.split == 'test' else 'train_list.txt'
        part = osp.join('train_test_split', name)
        source = 'https://www.pkuml.org/resources/pku-vehicleid.html (VehicleID_V1.0, on request)'
        require_parts('VehicleID', self.data_root, (part,), source)
        # Image names keep their zeros: they are file names.
        names, vehicles = read_columns(osp.join(self.data_root, part), dict(image_name=str, vehicle_id=int))
        classes, labels = number_classes(vehicles)
        self._metainfo.update(
            model_of=self._read_attribute('model_attr.txt', 'model_id', classes),
            color_of=self._read_attribute('color_attr.txt', 'color_id', classes),
        )
        return Samples([f'{image}.jpg' for image in names], labels, classes)

    def _read_attribute(self, name: str, column: str, classes: list[str]) -> dict[str, int]:
        """Read the attribute of those of the vehicles that have it."""
        path = osp.join(self.data_root, 'attribute', name)
        if not osp.isfile(path):
            return {}
        vehicles, values = read_columns(path, {'vehicle_id': int, column: int})
        known = {str(vehicle): value for vehicle, value in zip(vehicles, values, strict=True)}
        return {vehicle: known[vehicle] for vehicle in classes if vehicle in known}
