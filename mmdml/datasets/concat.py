"""Several datasets as one, with one running index and one set of labels."""

import copy
from collections.abc import Callable, Sequence

import numpy as np
from mmengine.dataset import ConcatDataset

from mmdml.datasets.base import RetrievalDataset
from mmdml.datasets.samples import DatasetSummary
from mmdml.registry import DATASETS
from mmdml.structures.row_facts import ROLE_NAMES, check_one_label_per_image, image_ids


@DATASETS.register_module()
class RetrievalConcatDataset(ConcatDataset):
    """Retrieval datasets joined one after the other.

    MMEngine's ``ConcatDataset`` repeats ``sample_idx`` and labels in every part; here ``sample_idx`` runs over all
    parts and labels are counted over all parts without gaps. The parts are shallow views; what is passed in stays as
    it is.

    An image that is in several parts (a query that is also in the gallery) is one image, known by its file, and has
    one label.

    Args:
        datasets: retrieval datasets or their configs.
        label_space: ``'shared'``: classes of one name are one class (a query part and a gallery part);
            ``'disjoint'``: the parts have no class in common (two benchmarks, both with a class ``'1'``).
        roles: ``'query'``, ``'gallery'`` or ``'both'`` for each part, in place of the roles that its images have; None
            leaves them as they are. Two lists without roles are *not* queries and gallery without it: every image
            would search all others.
        lazy_init: read the annotations at first use.

    Raises:
        ValueError: no dataset, an unknown ``label_space`` or role, roles for another number of parts, or one file with
            two labels.
        TypeError: a part that is no retrieval dataset.

    Config::

        dataset = dict(
            type='RetrievalConcatDataset',
            label_space='shared',
            roles=['query', 'gallery'],
            datasets=[dict(type='ImageList', ann_file='query.txt'), dict(type='ImageList', ann_file='gallery.txt')])
    """

    def __init__(
        self,
        datasets: Sequence[dict | RetrievalDataset],
        label_space: str,
        roles: Sequence[str] | None = None,
        lazy_init: bool = False,
    ) -> None:
        if label_space not in ('shared', 'disjoint'):
            raise ValueError(f"label_space={label_space!r} is unknown, choose 'shared' or 'disjoint'")
        if not datasets:
            raise ValueError('RetrievalConcatDataset needs at least one dataset')
        if roles is not None and (len(roles) != len(datasets) or not set(roles) <= set(ROLE_NAMES)):
            raise ValueError(
                f'roles={list(roles)} must have one of {list(ROLE_NAMES)} for each of the {len(datasets)} datasets'
            )
        self.label_space = label_space
        self.roles = roles
        self.datasets: list[RetrievalDataset] = [
            DATASETS.build(dict(part)) if isinstance(part, dict) else part for part in datasets
        ]
        for part in self.datasets:
            if not isinstance(part, RetrievalDataset):
                raise TypeError(f'parts must be retrieval datasets of mmdml, got {type(part).__name__}')
        self._labels: np.ndarray | None = None
        self._fully_initialized = False
        if not lazy_init:
            self.full_init()

    def full_init(self) -> None:
        """Read the parts, and number classes and images over all of them."""
        if self._fully_initialized:
            return
        for part in self.datasets:
            part.full_init()
        names = [part.metainfo['classes'] for part in self.datasets]
        if self.label_space == 'shared':
            classes = list(dict.fromkeys(name for own in names for name in own))
            position = {name: label for label, name in enumerate(classes)}
            maps = [np.array([position[name] for name in own], dtype=np.int64) for own in names]
        else:
            classes = [name for own in names for name in own]
            starts = np.cumsum([0] + [len(own) for own in names])
            maps = [np.arange(len(own)) + start for own, start in zip(names, starts[:-1], strict=True)]
        offsets = np.cumsum([0] + [len(part) for part in self.datasets]).tolist()
        roles = [None] * len(maps) if self.roles is None else [ROLE_NAMES[role] for role in self.roles]
        self.datasets = [
            part.as_part(offset, label_map, role)
            for part, offset, label_map, role in zip(self.datasets, offsets[:-1], maps, roles, strict=True)
        ]
        self._metainfo = dict(
            self.datasets[0].metainfo,
            classes=classes,
            num_images=offsets[-1],
            part_sizes=[len(part) for part in self.datasets],
            has_roles=any(part.metainfo['has_roles'] for part in self.datasets),
            unlabeled=any(part.metainfo['unlabeled'] for part in self.datasets),
        )
        self._labels = np.concatenate([part.labels for part in self.datasets])
        self._check_labels(classes)
        self._labels.flags.writeable = False
        super().full_init()

    def _check_labels(self, classes: Sequence[str]) -> None:
        """Check that an image that is in several parts has one label."""
        paths = [part.get_data_info(i)['img_path'] for part in self.datasets for i in range(len(part))]
        names = np.array([*classes, 'no label'], dtype=object)[self._labels]
        try:
            check_one_label_per_image(names, image_ids(paths), paths)
        except ValueError as error:
            hint = "; label_space='shared' joins classes of one name" if self.label_space == 'disjoint' else ''
            raise ValueError(f'{error}{hint}') from None

    @property
    def labels(self) -> np.ndarray:
        """``(N,)`` int64 labels over all parts; read-only."""
        self.full_init()
        return self._labels

    @property
    def metainfo(self) -> dict:
        """Entries of the first part, with ``classes`` and ``num_images`` over all parts."""
        self.full_init()
        return dict(self._metainfo)

    @property
    def columns(self) -> dict[str, np.ndarray]:
        """More facts of the images, of columns that all parts have."""
        self.full_init()
        columns = [part.columns for part in self.datasets]
        shared = [name for name in columns[0] if all(name in own for own in columns)]
        return {name: np.concatenate([own[name] for own in columns]) for name in shared}

    @property
    def summary(self) -> DatasetSummary:
        """Images and classes of the whole and of each part, for one line of a log."""
        labels = self.labels
        num_classes = len(np.unique(labels[labels >= 0]))
        return DatasetSummary('together', len(labels), num_classes, tuple(part.summary for part in self.datasets))

    @property
    def split(self) -> str:
        """The split of the parts; 'test' as soon as one part is."""
        splits = {part.split for part in self.datasets}
        return 'test' if 'test' in splits else '+'.join(sorted(splits))

    @property
    def pipeline(self) -> Callable:
        """The pipeline of the first part."""
        return self.datasets[0].pipeline

    @property
    def seed(self) -> int | None:
        """The seed of the augmentation."""
        return self.datasets[0].seed

    @property
    def epoch(self) -> int:
        """The epoch that the augmentation is seeded with."""
        return self.datasets[0].epoch

    def set_epoch(self, epoch: int) -> None:
        """See :meth:`RetrievalDataset.set_epoch`."""
        self.full_init()
        for part in self.datasets:
            part.set_epoch(epoch)

    def set_seed(self, seed: int | None) -> None:
        """See :meth:`RetrievalDataset.set_seed`."""
        for part in self.datasets:
            part.set_seed(seed)

    def with_pipeline(self, pipeline: Sequence[dict | Callable] | None = None) -> 'RetrievalConcatDataset':
        """See :meth:`RetrievalDataset.with_pipeline`."""
        self.full_init()
        view = copy.copy(self)
        view.datasets = [part.with_pipeline(pipeline) for part in self.datasets]
        return view

    def __getitem__(self, idx: int) -> dict:
        """Pipeline output of image ``idx``; a :class:`Draw` keeps its ``repeat``."""
        self.full_init()
        part, local = self._get_ori_dataset_idx(int(idx))
        return self.datasets[part].read(local, getattr(idx, 'repeat', 0))
