"""The retrieval dataset: which images there are, their labels, and the cut of classes."""

import copy
import os.path as osp
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from mmengine.dataset import BaseDataset, Compose
from mmengine.logging import print_log

from mmdml.datasets.reading import ReadingMixin, build_transforms, new_epoch
from mmdml.datasets.samples import (
    SPLITS,
    DatasetSummary,
    Samples,
    checked_paths,
    cut_classes,
    draw_images,
    require_some_files,
)
from mmdml.structures.row_facts import QUERY_AND_GALLERY


class RetrievalDataset(ReadingMixin, BaseDataset):
    """Images with class labels, for metric learning and retrieval.

    A subclass says which images there are (:meth:`load_samples`); this class holds out validation classes, numbers
    classes and images, and runs the pipeline. One data info is::

        dict(img_path='.../a.jpg', gt_label=3, role=0, sample_idx=17)

    ``gt_label`` runs over ``0..C-1`` without gaps and ``metainfo['classes'][gt_label]`` is its name; ``role`` is 0 for
    an image that is query and gallery, 1 for a query, 2 for a gallery image; ``sample_idx`` is the running index. More
    columns of the source, such as ``camera``, are there by their names.

    Images without labels have ``gt_label=-1`` and ``metainfo['unlabeled']`` is True: they can be embedded, not trained
    on or scored. One file under two names (``a.png``, ``./a.png``, a link) is one image, and has one label.

    Args:
        split: ``'train'``: the training classes less those held out; ``'val'``: the training classes that are held
            out; ``'test'``: the test classes, whatever ``val_classes`` says.
        val_classes: share (a float in 0..1) or number (an int) of the *training* classes to hold out; 0 for none.
        val_seed: None holds out the last classes in the dataset's order, which is how the benchmarks cut test from
            training classes; a number draws the classes with that seed.
        max_per_class: keep at most this many images of each class, drawn with ``images_seed``. Default: all.
        images_seed: of that draw; a smaller number of images is a part of a larger one.
        data_root: folder that the other paths are relative to.
        data_prefix: ``dict(img_path=folder)`` before the image paths.
        ann_file: annotation file of datasets that have one.
        pipeline: transforms, as configs or callables.
        on_unreadable: what to do when the pipeline raises or returns None. ``'stop'``: :class:`UnreadableImageError`
            with file, index and cause. ``'same_class'``: show the next image of the same class that can be read, under
            *its own* ``sample_idx``, with one warning a file; another class would break P x K batches.
        seed: seeds the augmentation of each image from (seed, epoch, index); None leaves the generators alone.
        metainfo: more entries of ``metainfo``.
        test_mode: as in MMEngine; needs ``on_unreadable='stop'``.
        lazy_init: read the annotations at first use.
        serialize_data: keep the data infos as one block of bytes that workers share.

    Raises:
        ValueError: an option out of range, a split without images, a class split that leaves no class, or one file
            with two labels.
        FileNotFoundError: the data are not there.

    Config::

        dataset = dict(type='ImageFolder', data_root='photos', split='train', val_classes=0.2, pipeline=[...])
    """

    #: Whether each image is read from a file of its own, which must be there.
    opens_files = True
    #: Whether there are images at all; features stand alone.
    has_images = True

    def __init__(
        self,
        split: str = 'train',
        val_classes: int | float = 0,
        val_seed: int | None = None,
        max_per_class: int | None = None,
        images_seed: int = 0,
        data_root: str = '',
        data_prefix: str | dict = '',
        ann_file: str = '',
        pipeline: Sequence[dict | Callable] = (),
        on_unreadable: str = 'stop',
        seed: int | None = None,
        metainfo: dict | None = None,
        test_mode: bool = False,
        lazy_init: bool = False,
        serialize_data: bool = True,
    ) -> None:
        if split not in SPLITS:
            raise ValueError(f'split={split!r} of {type(self).__name__} is unknown, choose one of {SPLITS}')
        if on_unreadable not in ('stop', 'same_class'):
            raise ValueError(f"on_unreadable={on_unreadable!r} is unknown, choose 'stop' or 'same_class'")
        if test_mode and on_unreadable != 'stop':
            raise ValueError("test_mode=True needs on_unreadable='stop': a figure over replaced images means nothing")
        if split == 'val' and not val_classes:
            raise ValueError("split='val' needs val_classes, e.g. val_classes=0.2, and the same value for the training")
        self.split = split
        self.val_classes = val_classes
        self.val_seed = val_seed
        self.max_per_class, self.images_seed = max_per_class, images_seed
        self.on_unreadable = on_unreadable
        #: Sentences on what was left out or looks wrong, once the images are known.
        self.notes: tuple[str, ...] = ()
        self._reported = set()
        self._labels: np.ndarray | None = None
        self._columns: dict[str, np.ndarray] | None = None
        # Set for the parts of a concatenation only.
        self._index_offset = 0
        self._label_map: np.ndarray | None = None
        self._role: int | None = None
        self.set_seed(seed)
        self._epoch = new_epoch()
        super().__init__(
            ann_file=ann_file,
            metainfo=metainfo,
            data_root=data_root,
            data_prefix=dict(img_path=data_prefix) if isinstance(data_prefix, str) else data_prefix,
            pipeline=build_transforms(pipeline),
            test_mode=test_mode,
            lazy_init=lazy_init,
            serialize_data=serialize_data,
        )

    def load_samples(self) -> Samples:
        """Return the images of the training classes, or of the test classes where ``self.split`` is ``'test'``."""
        raise NotImplementedError

    def load_data_list(self) -> list[dict]:
        """Return the data infos of this split, with labels counted from 0."""
        samples = self.load_samples()
        self.notes = tuple(f'{type(self).__name__}: {note}' for note in samples.notes)
        for note in self.notes:
            print_log(note, 'current', level=30)
        labels, kept, classes = cut_classes(samples, self.split, self.val_classes, self.val_seed)
        kept = kept[draw_images(labels[kept], self.max_per_class, self.images_seed)]
        if not len(kept):
            raise ValueError(f'{type(self).__name__} has no image in split={self.split!r}: {self._where()}')
        paths = checked_paths(samples, self.data_prefix.get('img_path', ''), self._where(), self.opens_files)
        roles = np.zeros(len(labels), dtype=np.int64) if samples.roles is None else samples.roles
        paths = [paths[row] for row in kept]
        if self.opens_files:
            hint = f'check data_root={self.data_root!r} and data_prefix={self.data_prefix}'
            require_some_files(paths, type(self).__name__, hint)
        self._labels, roles = labels[kept], roles[kept]
        self._columns = {name: np.asarray(values)[kept] for name, values in samples.columns.items()}
        self._metainfo.update(classes=classes, num_images=len(kept), has_roles=bool(roles.any()))
        self._metainfo.update(unlabeled=not classes, columns=sorted(self._columns))
        facts = dict(img_path=paths, gt_label=self._labels.tolist(), role=roles.tolist())
        facts.update((name, values.tolist()) for name, values in self._columns.items())
        return [dict(zip(facts, row, strict=True)) for row in zip(*facts.values(), strict=True)]

    def _where(self) -> str:
        """Name the source, for error messages."""
        return osp.abspath(self.ann_file or self.data_root)

    @property
    def labels(self) -> np.ndarray:
        """``(N,)`` int64 labels of all images, without opening any; -1 where there are none; read-only."""
        self.full_init()
        if self._labels is None:
            self._labels = np.array([self.get_data_info(i)['gt_label'] for i in range(len(self))], dtype=np.int64)
        self._labels.flags.writeable = False
        return self._labels

    @property
    def columns(self) -> dict[str, np.ndarray]:
        """More facts of the images, ``(N,)`` int64 or text by name, such as ``camera``."""
        self.full_init()
        if self._columns is None:
            infos = [self.get_data_info(i) for i in range(len(self))]
            self._columns = {name: np.array([info[name] for info in infos]) for name in self._metainfo['columns']}
        return dict(self._columns)

    @property
    def part_name(self) -> str:
        """Name of the part of the benchmark that this is, such as ``'train'`` or the size of a test list."""
        return self.split

    @property
    def summary(self) -> DatasetSummary:
        """Images and classes, for one line of a log."""
        labels = self.labels
        num_classes = len(np.unique(labels[labels >= 0]))
        return DatasetSummary(f'{type(self).__name__} {self.part_name}', len(labels), num_classes)

    @property
    def metainfo(self) -> dict:
        """``classes`` (the name of each label), ``num_images``, ``has_roles``, ``unlabeled``, ``columns`` and more."""
        self.full_init()
        return copy.deepcopy(self._metainfo)

    def with_pipeline(self, pipeline: Sequence[dict | Callable] | None = None) -> 'RetrievalDataset':
        """Return the same images through another pipeline, e.g. the test transform; annotations are shared, not copied.

        The view has its own epoch and seed, so that using it leaves the training augmentation alone.

        Args:
            pipeline: transforms. Default: the pipeline of this dataset.
        """
        return self._view(pipeline=self.pipeline if pipeline is None else Compose(build_transforms(pipeline)))

    def as_part(self, index_offset: int, label_map: np.ndarray, role: int | None = None) -> 'RetrievalDataset':
        """Return the same images as one part of a larger dataset, with its running index and labels.

        Args:
            index_offset: images before this part.
            label_map: ``(C,)`` new label of each of this dataset's labels.
            role: of all images of the part; None: as they have them.
        """
        label_map = np.append(label_map, -1)  # no label stays none
        part = self._view(_index_offset=index_offset, _label_map=label_map, _labels=label_map[self.labels], _role=role)
        if role is not None:
            part._metainfo = dict(self._metainfo, has_roles=role != QUERY_AND_GALLERY)
        return part

    def _view(self, **changes: Any) -> 'RetrievalDataset':
        self.full_init()
        view = copy.copy(self)
        vars(view).update(changes, _epoch=new_epoch(), _reported=set())
        return view

    def get_subset_(self, indices: int | Sequence[int]) -> None:
        """Cut this dataset to some images; labels keep their numbers."""
        super().get_subset_(indices)
        self._labels = self._columns = None

    def get_subset(self, indices: int | Sequence[int]) -> 'RetrievalDataset':
        """Return a copy with some of the images; labels keep their numbers."""
        subset = super().get_subset(indices)
        subset._labels = subset._columns = None
        subset._epoch = new_epoch()
        return subset

    def get_data_info(self, idx: int) -> dict:
        """Return the data info of one image, numbered by the running index and labels."""
        info = super().get_data_info(int(idx))
        info['sample_idx'] += self._index_offset
        if self._label_map is not None:
            info['gt_label'] = int(self._label_map[info['gt_label']])
        if self._role is not None:
            info['role'] = self._role
        return info
