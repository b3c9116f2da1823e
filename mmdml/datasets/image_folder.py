"""Pictures in one folder per class, or in a folder without classes."""

import os
import os.path as osp

import numpy as np

from mmdml.datasets.base import RetrievalDataset
from mmdml.datasets.samples import Samples
from mmdml.registry import DATASETS
from mmdml.utils.image_files import is_image_name, others_note, scan_images, with_parents
from mmdml.utils.names import printable


@DATASETS.register_module()
class ImageFolder(RetrievalDataset):
    """A folder with one folder per class, whose name is the class name.

    Classes are ordered by name, images by path; images may lie in folders below the class folder. All kinds of images
    that OpenCV reads are taken, by the endings of their names (``IMAGE_SUFFIXES`` of ``mmdml.utils.image_files``);
    other files, and images beside the class folders, are left out, counted, and named in a warning. Names that begin
    with a dot are skipped. Links to folders are followed, but not those to a folder above, and no folder is taken twice
    for a class. ``split='train'`` and ``'val'`` cut the classes of one training folder, ``'test'`` takes the whole
    folder.

    Args:
        data_root: the folder.
        unlabeled: take all images in the folder and below it, in whatever folders, as images without labels; they
            can be embedded, not trained on or scored.
        kwargs: see :class:`mmdml.datasets.base.RetrievalDataset`.

    Raises:
        FileNotFoundError: the folder is not there, or holds no class folder.
        ValueError: a class folder without an image, or an image's name that belongs to a pipe, a device or a broken
            link.
        OSError: a folder that cannot be read.

    Config::

        dataset = dict(type='ImageFolder', data_root='photos/train', val_classes=0.2, pipeline=[...])
    """

    def __init__(self, data_root: str, unlabeled: bool = False, **kwargs) -> None:
        self.unlabeled = unlabeled
        super().__init__(data_root=data_root, **kwargs)

    def load_samples(self) -> Samples:
        """List the images."""
        root = self.data_prefix['img_path'] or self.data_root
        if not osp.isdir(root):
            raise FileNotFoundError(f'ImageFolder finds no folder {printable(osp.abspath(root))}; check data_root')
        return self._without_classes(root) if self.unlabeled else self._by_class(root)

    def _without_classes(self, root: str) -> Samples:
        scan = scan_images(root)
        if not scan.images:
            raise FileNotFoundError(f'ImageFolder finds no picture in {printable(osp.abspath(root))} or below it')
        return Samples(scan.images, np.full(len(scan.images), -1), [], notes=others_note(root, scan.others))

    def _by_class(self, root: str) -> Samples:
        above = with_parents(root)
        entries = [entry for entry in os.scandir(root) if entry.name[0] != '.']
        folders = [entry for entry in entries if entry.is_dir() and osp.realpath(entry.path) not in above]
        loose = sorted(entry.name for entry in entries if not entry.is_dir() and is_image_name(entry.name))
        others = sorted(entry.name for entry in entries if not entry.is_dir() and not is_image_name(entry.name))
        classes = sorted(folder.name for folder in folders)
        if not classes:
            hint = f', only {len(loose)} pictures: without classes they are read with unlabeled=True' if loose else ''
            raise FileNotFoundError(
                f'ImageFolder expects one folder per class in {printable(osp.abspath(root))}, and finds no folder '
                f'there{hint}'
            )
        paths, labels, empty = [], [], []
        for label, name in enumerate(classes):
            scan = scan_images(root, name)
            paths += scan.images
            others += scan.others
            labels += [label] * len(scan.images)
            if not scan.images:
                empty.append(name)
        if empty:
            raise ValueError(
                f'{len(empty)} class folders in {printable(osp.abspath(root))} hold no image of a kind that OpenCV '
                f'reads, e.g. {empty[:5]}; fill or remove them'
            )
        notes = _notes(root, classes, np.bincount(labels), loose) + others_note(root, others)
        return Samples(paths, np.array(labels, dtype=np.int64), classes, notes=notes)


def _notes(root: str, classes: list[str], sizes: np.ndarray, loose: list[str]) -> list[str]:
    """Sentences on what looks wrong in a folder of class folders."""
    notes, root = [], printable(osp.abspath(root))
    if loose:
        notes.append(
            f'{len(loose)} pictures in {root} lie beside the class folders and are left out, e.g. '
            f'{printable(loose[0])}; put them into class folders'
        )
    if len(classes) == 1:
        notes.append(
            f'{root} has one class folder, {printable(classes[0])}: there are no images of other classes to tell it '
            'from; is data_root one folder too high?'
        )
    single = [classes[label] for label in np.flatnonzero(sizes == 1)]
    if single:
        notes.append(
            f'{len(single)} classes in {root} have one picture, e.g. {printable(single[0])}: it has no other to be '
            'found, and none to be trained with'
        )
    return notes
