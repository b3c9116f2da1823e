"""What every retrieval data set offers to samplers, sweeps and metrics."""

import copy
import os.path as osp
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from mmengine.dataset import BaseDataset, Compose
from mmengine.fileio import exists
from mmengine.logging import print_log

from mmdml.datasets.augmentation_seed import augmentation_seed
from mmdml.registry import TRANSFORMS
from mmdml.utils.seeding import Stream, numpy_generator

SPLITS = ('train', 'val', 'test')


class Samples(NamedTuple):
    """The images of one source, before any class is held out.

    Attributes:
        paths: ``N`` image paths, relative to ``data_prefix['img_path']`` or absolute.
        labels: ``(N,)`` positions in ``classes``.
        classes: class names, in the data set's official order.
        roles: ``(N,)`` of 0 (query and gallery), 1 (query) or 2 (gallery); None for all 0.
    """

    paths: Sequence[str]
    labels: np.ndarray
    classes: Sequence[str]
    roles: np.ndarray | None = None


class UnreadableImageError(RuntimeError):
    """An image that the pipeline could not turn into an input; names the file and its index."""


class RetrievalDataset(BaseDataset):
    """Images with class labels, for metric learning and retrieval.

    A subclass says which images there are (:meth:`load_samples`); this class holds out validation classes, numbers
    classes and images, and runs the pipeline. One data info is::

        dict(img_path='.../a.jpg', gt_label=3, role=0, sample_idx=17)

    ``gt_label`` runs over ``0..C-1`` without gaps and ``metainfo['classes'][gt_label]`` is its name; ``role`` is 0 for
    an image that is query and gallery, 1 for a query, 2 for a gallery image; ``sample_idx`` is the running index.

    Args:
        split: ``'train'``: the training classes less those held out; ``'val'``: the training classes that are held
            out; ``'test'``: the test classes, whatever ``val_classes`` says.
        val_classes: share (a float in 0..1) or number (an int) of the *training* classes to hold out; 0 for none.
        val_seed: None holds out the last classes in the data set's order, which is how the benchmarks cut test from
            training classes; a number draws the classes with that seed.
        data_root: folder that the other paths are relative to.
        data_prefix: ``dict(img_path=folder)`` before the image paths.
        ann_file: annotation file of data sets that have one.
        pipeline: transforms, as configs or callables.
        on_unreadable: what to do when the pipeline raises or returns None. ``'stop'``: :class:`UnreadableImageError`
            with file, index and cause. ``'same_class'``: show the next image of the same class that can be read, under
            *its own* ``sample_idx`` (statistics never get a picture under another's index), with one warning a file.
            Never a random other image, which would break P x K batches.
        seed: seeds the augmentation of each image from (seed, epoch, index); None leaves the generators alone.
        metainfo: more entries of ``metainfo``.
        test_mode: as in MMEngine; needs ``on_unreadable='stop'``.
        lazy_init: read the annotations at first use.
        serialize_data: keep the data infos as one block of bytes that workers share.

    Raises:
        ValueError: an option out of range, a split without images, or a class split that leaves no class.
        FileNotFoundError: the data are not there.

    Example:
        >>> dataset = dict(type='ImageFolder', data_root='photos', split='train', val_classes=0.2, pipeline=[...])
    """

    def __init__(
        self,
        split: str = 'train',
        val_classes: int | float = 0,
        val_seed: int | None = None,
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
        self.on_unreadable = on_unreadable
        self._reported: set = set()
        self._labels: np.ndarray | None = None
        # Set for the parts of a concatenation only.
        self._index_offset = 0
        self._label_map: np.ndarray | None = None
        self.set_seed(seed)
        self._epoch = _new_epoch()
        super().__init__(
            ann_file=ann_file,
            metainfo=metainfo,
            data_root=data_root,
            data_prefix=dict(img_path=data_prefix) if isinstance(data_prefix, str) else data_prefix,
            pipeline=_build_transforms(pipeline),
            test_mode=test_mode,
            lazy_init=lazy_init,
            serialize_data=serialize_data,
        )

    def load_samples(self) -> Samples:
        """The images of the training classes, or of the test classes where ``self.split`` is ``'test'``."""
        raise NotImplementedError

    def load_data_list(self) -> list[dict]:
        """Data infos of this split, with labels counted from 0."""
        samples = self.load_samples()
        labels = np.asarray(samples.labels, dtype=np.int64)
        chosen = self._choose_classes(len(samples.classes))
        new_label = np.full(len(samples.classes), -1)
        new_label[chosen] = np.arange(len(chosen))
        labels = new_label[labels]
        kept = np.flatnonzero(labels >= 0)
        if not len(kept):
            raise ValueError(f'{type(self).__name__} has no image in split={self.split!r}: {self._where()}')
        roles = np.zeros(len(labels), dtype=np.int64) if samples.roles is None else samples.roles
        prefix = self.data_prefix.get('img_path', '')
        paths = [osp.join(prefix, samples.paths[i]) for i in kept]
        self._check_some_exist(paths)
        self._labels = labels[kept]
        self._metainfo.update(
            classes=[samples.classes[i] for i in chosen], num_images=len(kept), has_roles=bool(roles[kept].any())
        )
        rows = zip(paths, self._labels.tolist(), roles[kept].tolist(), strict=True)
        return [dict(img_path=path, gt_label=label, role=role) for path, label, role in rows]

    def _choose_classes(self, num_classes: int) -> np.ndarray:
        """Sorted positions of the classes of this split."""
        everything = np.arange(num_classes)
        if self.split == 'test' or not self.val_classes:
            return everything
        held_out = self.val_classes
        if isinstance(held_out, float) and held_out > 0:
            held_out = max(1, round(held_out * num_classes))
        if not 0 < held_out < num_classes:
            raise ValueError(
                f'val_classes={self.val_classes} holds out {held_out} of {num_classes} training classes; '
                'it must leave at least one class on each side'
            )
        order = everything
        if self.val_seed is not None:
            order = numpy_generator(Stream.VALIDATION_CLASSES, self.val_seed).permutation(num_classes)
        return np.sort(order[-held_out:] if self.split == 'val' else order[:-held_out])

    def _check_some_exist(self, paths: Sequence[str]) -> None:
        """A wrong folder should end the run now; single bad images are met when they are read."""
        probes = [paths[i] for i in np.linspace(0, len(paths) - 1, min(10, len(paths))).astype(int)]
        if not any(exists(path) for path in probes):
            raise FileNotFoundError(
                f'{type(self).__name__} finds none of its images, e.g. {osp.abspath(probes[0])}; '
                f'check data_root={self.data_root!r} and data_prefix={self.data_prefix}'
            )

    def _where(self) -> str:
        """The source, for error messages."""
        return osp.abspath(self.ann_file or self.data_root)

    @property
    def labels(self) -> np.ndarray:
        """``(N,)`` int64 labels of all images, without opening any; read-only."""
        self.full_init()
        if self._labels is None:
            self._labels = np.array([self.get_data_info(i)['gt_label'] for i in range(len(self))], dtype=np.int64)
        self._labels.flags.writeable = False
        return self._labels

    @property
    def metainfo(self) -> dict:
        """``classes`` (the name of each label), ``num_images``, ``has_roles``, and what the config added."""
        self.full_init()
        return copy.deepcopy(self._metainfo)

    @property
    def epoch(self) -> int:
        """The epoch that the augmentation is seeded with."""
        return int(self._epoch)

    def set_epoch(self, epoch: int) -> None:
        """Tell the augmentation the epoch; workers that are already running see it as well."""
        self._epoch.fill_(epoch)

    def set_seed(self, seed: int | None) -> None:
        """Seed the augmentation (None: do not). Call it before workers start: they keep the seed they began with."""
        if seed is not None and seed < 0:
            raise ValueError(f'seed={seed} must be None or 0 or more')
        self.seed = seed

    def with_pipeline(self, pipeline: Sequence[dict | Callable] | None = None) -> 'RetrievalDataset':
        """The same images through another pipeline, e.g. the test transform; annotations are shared, not copied.

        The view has its own epoch and seed, so that using it leaves the training augmentation alone.

        Args:
            pipeline: transforms. Default: the pipeline of this data set.
        """
        return self._view(pipeline=self.pipeline if pipeline is None else Compose(_build_transforms(pipeline)))

    def as_part(self, index_offset: int, label_map: np.ndarray) -> 'RetrievalDataset':
        """The same images as one part of a larger data set, with its running index and labels.

        Args:
            index_offset: images before this part.
            label_map: ``(C,)`` new label of each of this data set's labels.
        """
        return self._view(_index_offset=index_offset, _label_map=label_map, _labels=label_map[self.labels])

    def _view(self, **changes: Any) -> 'RetrievalDataset':
        self.full_init()
        view = copy.copy(self)
        vars(view).update(changes, _epoch=_new_epoch(), _reported=set())
        return view

    def get_subset_(self, indices: int | Sequence[int]) -> None:
        """Cut this data set to some images; labels keep their numbers."""
        super().get_subset_(indices)
        self._labels = None

    def get_subset(self, indices: int | Sequence[int]) -> 'RetrievalDataset':
        """A copy with some of the images; labels keep their numbers."""
        subset = super().get_subset(indices)
        subset._labels = None
        subset._epoch = _new_epoch()
        return subset

    def get_data_info(self, idx: int) -> dict:
        """Data info of one image, numbered by the running index and labels."""
        info = super().get_data_info(int(idx))
        info['sample_idx'] += self._index_offset
        if self._label_map is not None:
            info['gt_label'] = int(self._label_map[info['gt_label']])
        return info

    def open_image(self, data_info: dict) -> dict:
        """Hook for data sets that hold their pixels in memory: add them to the data info."""
        return data_info

    def __getitem__(self, idx: int) -> dict:
        """Pipeline output of image ``idx``, an int or a :class:`mmdml.datasets.samplers.Draw`.

        Raises:
            UnreadableImageError: see ``on_unreadable``.
        """
        return self.read(int(idx), getattr(idx, 'repeat', 0))

    def read(self, idx: int, repeat: int = 0) -> dict:
        """Pipeline output of image ``idx``, with the augmentation of its ``repeat``-th repetition in this epoch."""
        self.full_init()
        try:
            return self._read(idx, repeat)
        except UnreadableImageError as error:
            if self.on_unreadable == 'stop':
                raise
            return self._read_same_class(idx, error)

    def _read(self, idx: int, repeat: int) -> dict:
        info = self.get_data_info(idx)
        try:
            if self.seed is None:
                data = self.pipeline(self.open_image(info))
            else:
                with augmentation_seed(self.seed, self.epoch, info['sample_idx'], repeat):
                    data = self.pipeline(self.open_image(info))
        except Exception as error:
            raise UnreadableImageError(
                f'cannot read image {info["img_path"]} (index {info["sample_idx"]} of {type(self).__name__}): '
                f'{type(error).__name__}: {str(error).strip()}'
            ) from error
        if data is None:
            raise UnreadableImageError(
                f'the pipeline returned None for image {info["img_path"]} (index {info["sample_idx"]})'
            )
        return data

    def _read_same_class(self, idx: int, error: UnreadableImageError) -> dict:
        """The next readable image of the class, in the order of the data set, from ``idx`` on and round."""
        members = np.flatnonzero(self.labels == self.labels[idx])
        position = int(np.searchsorted(members, idx % len(self)))
        for other in np.roll(members, -position)[1:].tolist():
            try:
                # A number of repeats that no sampler reaches: the replacement may be in the batch itself, and must
                # not come twice with the same augmentation.
                data = self._read(other, repeat=len(self) + idx)
            except UnreadableImageError:
                continue
            if idx not in self._reported:
                self._reported.add(idx)
                shown = self.get_data_info(other)['img_path']
                print_log(f'{error}; showing {shown} of the same class instead', 'current', level=30)
            return data
        raise UnreadableImageError(f'{error}; its class has no other image that can be read')


def _new_epoch() -> torch.Tensor:
    """An epoch counter in shared memory, where persistent workers see changes."""
    return torch.zeros(1, dtype=torch.int64).share_memory_()


def _build_transforms(pipeline: Sequence[dict | Callable]) -> list[Callable]:
    """MMEngine's Compose looks types up in the root registry only; this finds mmdml's, mmcv's and mmpretrain's."""
    return [TRANSFORMS.build(transform) if isinstance(transform, dict) else transform for transform in pipeline]
