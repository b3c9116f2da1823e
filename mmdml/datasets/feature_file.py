"""Features of a frozen backbone as a dataset: training without images."""

import os.path as osp
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmdml.datasets.base import RetrievalDataset
from mmdml.datasets.feature_augmentation import FeatureRows
from mmdml.datasets.feature_batch import FeatureBatch, FeatureSamples
from mmdml.datasets.image_list import number_classes
from mmdml.datasets.samples import Samples
from mmdml.functional.embedding_files import read_embeddings
from mmdml.registry import DATASETS
from mmdml.utils.numbers import is_number
from mmdml.utils.seeding import Stream, numpy_generator

# Names that a data info has for other things, and the ids that tell which rows are one image.
_RESERVED = ('img_path', 'gt_label', 'role', 'sample_idx', 'feature_row', 'ids')


@DATASETS.register_module()
class FeatureFile(RetrievalDataset):
    """Rows of a file of features or embeddings, with their labels, roles and paths.

    A batch is fetched at once (``__getitems__``), as ``dict(inputs=(B, C), data_samples=FeatureSamples)``: the loader
    needs ``collate_fn=dict(type='mmdml.collate_features')`` and no workers. Images are not opened, and need not be
    there; their paths may be addresses.

    What a file may hold is described in :func:`mmdml.functional.embedding_files.read_columns`: ``.npz`` as
    ``tools/test.py --out`` and ``tools/dataset_converters/extract_features.py`` write them, ``.npy`` with a table of
    labels, ``.parquet``, or a folder that ``mmdml embed`` wrote. Rows of such a folder are labeled by ``labels``, or by
    the first folder of their paths. Classes are in the order of the file's ``class_names``, which hold the labels
    themselves or what labels 0, 1, ... are called; without these, by number if all labels are whole numbers, else by
    name. Columns such as ``column_camera`` are in each data info and sample
    by their names (``camera``), for targets, ``RetrievalMetric(groups='camera')`` and its graded scores; ``groups`` and
    ``parts`` as well. Rows of one ``ids`` are one image, which does not find itself.

    Args:
        ann_file: the file or folder, relative to ``data_root`` or absolute.
        label_file: labels of a file that has none: ``.npy``, ``.txt``, ``.csv`` or ``.tsv``, one a row.
        test_classes: share (a float in 0..1) or number (an int) of the file's last classes that are test classes:
            ``split='test'`` has these, 'train' and 'val' the others. 0: the whole file is of one side, as with
            :class:`ImageList`.
        pipeline: :class:`FeatureNoise`, :class:`FeatureMixup`, or callables of the same kind. Default: none.
        kwargs: see :class:`mmdml.datasets.base.RetrievalDataset`.

    Raises:
        FileNotFoundError, ImportError: see ``read_columns``.
        ValueError: what ``read_embeddings`` refuses, such as rows without a label; a label that is not among the
            ``class_names``, or two equal ones among these; a class split that leaves no class; numbers out of fp32.

    Config::

        train_dataloader = dict(
            batch_size=128,
            collate_fn=dict(type='mmdml.collate_features'),
            sampler=dict(type='PKSampler', batch_size=128, images_per_class=4),
            dataset=dict(type='FeatureFile', ann_file='features/mobilenet-v2/grocery/train.npz'))
    """

    opens_files = False
    has_images = False

    def __init__(
        self,
        ann_file: str,
        label_file: str | None = None,
        test_classes: int | float = 0,
        pipeline: Sequence[dict | Callable] = (),
        **kwargs,
    ) -> None:
        self.label_file = label_file
        self.test_classes = test_classes
        self._table: np.ndarray | None = None
        self._rows: np.ndarray | None = None
        self._sample_facts: dict[str, np.ndarray] | None = None
        super().__init__(ann_file=ann_file, data_prefix={}, pipeline=pipeline, **kwargs)

    def load_samples(self) -> Samples:
        """Read the file."""
        label_file = self.label_file and osp.join(self.data_root, self.label_file)
        where = osp.abspath(self.ann_file)
        saved = read_embeddings(where, label_file, 'label_file')
        facts = saved.facts
        known = facts.columns()
        own = [name for name in ('ids', 'groups', 'parts') if name in known and (name != 'ids' or saved.has_ids)]
        taken = sorted({*_RESERVED, *own} & set(facts.more))
        if taken:
            raise ValueError(f"{where} has a column 'column_{taken[0]}'; the name {taken[0]!r} is taken")
        columns = {name: known[name] for name in own} | dict(facts.more)
        try:
            classes, labels = number_classes(*_named(facts.labels, saved.class_names))
            rows, classes, labels = self._cut_test_classes(classes, labels)
        except ValueError as error:
            raise ValueError(f'{where}: {error}') from None
        self._table = _as_fp32(where, saved.embeddings)[rows]
        paths = ([''] * len(rows)) if facts.paths is None else facts.paths[rows].tolist()
        more = {name: values[rows] for name, values in columns.items()}
        return Samples(paths, labels, classes, facts.roles[rows], {'feature_row': np.arange(len(rows)), **more})

    @property
    def columns(self) -> dict[str, np.ndarray]:
        """``ids``, ``groups`` and ``parts`` of the file, and ``camera`` of its ``column_camera``: ``(N,)`` each."""
        return {name: values for name, values in super().columns.items() if name != 'feature_row'}

    def _cut_test_classes(self, classes: list[str], labels: np.ndarray) -> tuple[np.ndarray, list[str], np.ndarray]:
        """Return the rows of this side, its classes, and the labels of these rows."""
        number = self.test_classes
        if isinstance(number, float) and number > 0:
            number = max(1, round(number * len(classes)))
        if not number:
            return np.arange(len(labels)), classes, labels
        if not is_number(number):
            raise ValueError(f'test_classes must be a share (a float) or a number (an int) of classes, got {number!r}')
        if not 0 < number < len(classes):
            raise ValueError(f'test_classes={self.test_classes} must leave classes on both sides of {len(classes)}')
        first = len(classes) - number
        rows = np.flatnonzero(labels >= first if self.split == 'test' else labels < first)
        if self.split == 'test':
            return rows, classes[first:], labels[rows] - first
        return rows, classes[:first], labels[rows]

    def get_subset_(self, indices: int | Sequence[int]) -> None:
        super().get_subset_(indices)
        self._forget()

    def get_subset(self, indices: int | Sequence[int]) -> 'FeatureFile':
        subset = super().get_subset(indices)
        subset._forget()
        return subset

    def as_part(self, *args: Any, **kwargs: Any) -> 'FeatureFile':
        part = super().as_part(*args, **kwargs)
        part._forget()  # labels are other numbers there
        return part

    def _forget(self) -> None:
        """Drop what was derived from the rows."""
        self._rows = self._sample_facts = None
        for name in ('deviation', 'class_rows'):
            vars(self).pop(name, None)

    def features_at(self, positions: np.ndarray) -> Tensor:
        """``(B, C)`` features as the file has them, of positions ``(B,)`` in the dataset."""
        if self._rows is None:
            self._rows = np.asarray(super().columns['feature_row'], dtype=np.int64)
        # numpy, because torch would start threads for some rows.
        return torch.from_numpy(self._table[self._rows[positions]])

    @property
    def width(self) -> int:
        """Number C of the features of a row."""
        self.full_init()
        return self._table.shape[1]

    @cached_property
    def deviation(self) -> Tensor:
        """``(C,)`` standard deviation of every feature over the dataset."""
        return self.features_at(np.arange(len(self))).std(0, correction=0)

    @cached_property
    def class_rows(self) -> dict[int, np.ndarray]:
        """Positions of every class, by label."""
        order = np.argsort(self.labels, kind='stable')
        labels, starts = np.unique(self.labels[order], return_index=True)
        return dict(zip(labels.tolist(), np.split(order, starts[1:]), strict=True))

    def __getitems__(self, indices: Sequence[int]) -> dict[str, Any]:
        """Return a batch; an index may be a :class:`mmdml.datasets.samplers.Draw`."""
        self.full_init()
        positions = np.fromiter(map(int, indices), np.int64, len(indices))
        if len(positions) and not -len(self) <= positions.min() <= positions.max() < len(self):
            raise IndexError(f'FeatureFile has {len(self)} rows, got the index {positions.max()}')
        positions %= max(len(self), 1)
        features = self.features_at(positions)
        if getattr(self.pipeline, 'transforms', ()):
            rows = FeatureRows(features, positions, self._generators(indices, positions), self)
            features = self.pipeline(rows).features
        return FeatureBatch(inputs=features, data_samples=self._samples(positions))

    def read(self, idx: int, repeat: int = 0) -> dict[str, Any]:
        """Return one row as an item: ``inputs (C,)`` and its data sample."""
        from mmdml.datasets.samplers import Draw

        batch = self.__getitems__([Draw(idx, repeat) if repeat else idx])
        return dict(inputs=batch['inputs'][0], data_samples=batch['data_samples'][0])

    def _generators(self, indices: Sequence[int], positions: np.ndarray) -> list[np.random.Generator]:
        if self.seed is None:
            return [numpy_generator(Stream.AUGMENTATION, int(np.random.randint(2**31))) for _ in indices]
        keys = zip((positions + self._index_offset).tolist(), indices, strict=True)
        return [
            numpy_generator(Stream.AUGMENTATION, self.seed, self.epoch, number, getattr(index, 'repeat', 0))
            for number, index in keys
        ]

    def _samples(self, positions: np.ndarray) -> FeatureSamples:
        facts = {name: values[positions].tolist() for name, values in self._facts.items()}
        if self._role is not None:
            facts['role'] = [self._role] * len(positions)
        labels = torch.from_numpy(self.labels[positions])
        return FeatureSamples(labels, torch.from_numpy(positions + self._index_offset), facts)

    @property
    def _facts(self) -> dict[str, np.ndarray]:
        """What the samples carry besides label and index, by name."""
        if self._sample_facts is None:
            infos = [RetrievalDataset.get_data_info(self, row) for row in range(len(self))]
            names = ('img_path', 'role', *self.columns)
            self._sample_facts = {name: np.array([info[name] for info in infos], dtype=object) for name in names}
        return self._sample_facts


def _as_fp32(path: str, embeddings: np.ndarray) -> np.ndarray:
    """Return embeddings in fp32, if none of them leaves its range."""
    with np.errstate(over='ignore', under='ignore'):
        table = np.ascontiguousarray(embeddings, dtype=np.float32)
    lost = np.flatnonzero(~np.isfinite(table).all(1) | (~table.any(1) & embeddings.any(1)))
    if len(lost):
        raise ValueError(
            f'{path}: {len(lost)} of {len(table)} embeddings leave the range of fp32 and would be inf or 0, the first '
            f'is row {lost[0]}: scale them'
        )
    return table


def _named(labels: np.ndarray, class_names: Sequence[str]) -> tuple[list[str], Sequence[str]]:
    """Return the name of each label, and all names: labels may be names, or positions among them."""
    names = [str(label) for label in labels]
    repeated = [name for name, number in Counter(class_names).items() if number > 1]
    if repeated:
        raise ValueError(f'{repeated[0]!r} is there {class_names.count(repeated[0])} times among the class_names')
    unknown = sorted(set(names) - set(class_names)) if class_names else []
    if not unknown:
        return names, class_names
    if labels.dtype.kind in 'iu' and len(unknown) == len(set(names)):
        if 0 <= labels.min() and labels.max() < len(class_names):
            return [class_names[label] for label in labels], class_names
    raise ValueError(f'the label {unknown[0]!r} is not among its {len(class_names)} class_names')
