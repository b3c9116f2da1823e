"""Classes and images that a dataset has on this machine, against those it should have."""

import os.path as osp
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mmdml.datasets import RetrievalDataset
from mmdml.registry import DATASETS

#: The option that names the test list, for datasets that have several.
_TEST_LIST = {'VehicleID': 'size'}


@dataclass
class SplitReport:
    """What one split holds.

    Attributes:
        name: of the split.
        expected: official number of classes and of images; None if there is none.
        datasets: what was loaded; several where an official number covers several splits.
        error: why it could not be loaded, else ``''``.
    """

    name: str
    expected: tuple[int, int] | None
    datasets: list[RetrievalDataset] = field(default_factory=list)
    error: str = ''

    @property
    def found(self) -> tuple[int, int]:
        """Number of classes that have an image, and of images."""
        return sum(len(np.unique(part.labels)) for part in self.datasets), sum(map(len, self.datasets))

    @property
    def problem(self) -> str:
        """What is wrong, ``''`` if nothing is."""
        if self.error or self.expected in (None, self.found):
            return self.error
        (classes, images), (found_classes, found_images) = self.expected, self.found
        return (
            f'expected {classes:,} classes and {images:,} images, found {found_classes:,} classes and '
            f'{found_images:,} images'
        )


def retrieval_class(name: str) -> type[RetrievalDataset]:
    """Return the registered dataset of that name.

    Raises:
        ValueError: there is none; names those that have official counts.
    """
    found = DATASETS.get(name)
    if not (isinstance(found, type) and issubclass(found, RetrievalDataset)):
        known = sorted(key for key, part in DATASETS.module_dict.items() if hasattr(part, 'COUNTS'))
        raise ValueError(
            f'{name!r} is no retrieval dataset of mmdml; those with official counts are {", ".join(known)}'
        )
    return found


def official_splits(
    name: str, options: Mapping[str, Any] | None = None
) -> dict[str, tuple[list[dict[str, Any]], tuple[int, int] | None]]:
    """For each split of a dataset, the options that build its parts, and its official counts.

    Args:
        name: of a registered dataset. One without ``COUNTS`` has its training and test split, without counts.
        options: of the dataset. Counts do not hold where they differ from its ``COUNTED_WITH``.
    """
    dataset = retrieval_class(name)
    needed = getattr(dataset, 'COUNTED_WITH', {})
    holds = all((options or {}).get(key, value) == value for key, value in needed.items())
    counts = getattr(dataset, 'COUNTS', {}) if holds else {}
    splits = {split: ([_options(name, split)], counts[split]) for split in counts if split != 'all'}
    if not splits:
        splits = {split: ([dict(split=split)], None) for split in ('train', 'test')}
    if 'all' in counts:
        splits['all'] = [dict(split='train'), dict(split='test')], counts['all']
    return splits


def _options(name: str, split: str) -> dict[str, Any]:
    if name in _TEST_LIST and split != 'train':
        return {'split': 'test', _TEST_LIST[name]: split}
    return dict(split=split)


def load_split(
    name: str, type_name: str, options: Mapping[str, Any], parts: Sequence[dict], expected: tuple[int, int] | None
) -> SplitReport:
    """Build the parts of a split. What is wrong with the files is in the report; wrong options are raised.

    Args:
        name: of the split, for the report.
        type_name: registered name of the dataset.
        options: of the dataset, e.g. ``data_root``.
        parts: more options, for each part.
        expected: official counts.
    """
    report = SplitReport(name, expected)
    try:
        report.datasets = [DATASETS.build(dict(options, type=type_name, **part)) for part in parts]
    except (OSError, ValueError) as error:
        report.error = str(error)
    return report


def missing_images(reports: Sequence[SplitReport]) -> list[str]:
    """Paths of images that are listed and not there, each once."""
    paths = {
        part.get_data_info(i)['img_path']: None
        for report in reports
        for part in report.datasets
        for i in range(len(part))
    }
    return [path for path in paths if not osp.isfile(path)]
