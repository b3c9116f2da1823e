"""Pictures in one folder per class."""

import os
import os.path as osp
from pathlib import Path

import numpy as np

from mmdml.datasets.base import RetrievalDataset, Samples
from mmdml.registry import DATASETS

IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.webp', '.tif', '.tiff', '.ppm', '.pgm')


@DATASETS.register_module()
class ImageFolder(RetrievalDataset):
    """A folder with one folder per class, whose name is the class name.

    Classes are ordered by name, images by path; images may lie in folders below the class folder. Names that begin
    with a dot are skipped. Links to folders are followed, but not those to a folder above, and no folder is taken twice
    for a class. ``split='train'`` and ``'val'`` cut the classes of one training folder, ``'test'`` takes the whole
    folder.

    Args:
        data_root: the folder.
        kwargs: see :class:`mmdml.datasets.base.RetrievalDataset`.

    Raises:
        FileNotFoundError: the folder is not there, or holds no class folder.
        ValueError: a class folder without an image.

    Example:
        >>> dataset = dict(type='ImageFolder', data_root='photos/train', val_classes=0.2, pipeline=[...])
    """

    def __init__(self, data_root: str, **kwargs) -> None:
        super().__init__(data_root=data_root, **kwargs)

    def load_samples(self) -> Samples:
        """List the class folders."""
        root = self.data_prefix['img_path'] or self.data_root
        if not osp.isdir(root):
            raise FileNotFoundError(f'ImageFolder finds no folder {osp.abspath(root)}; check data_root')
        folders = [entry for entry in os.scandir(root) if entry.is_dir() and entry.name[0] != '.']
        above = _with_parents(root)
        classes = sorted(folder.name for folder in folders if osp.realpath(folder.path) not in above)
        if not classes:
            raise FileNotFoundError(
                f'ImageFolder expects one folder per class in {osp.abspath(root)}, and finds no folder there'
            )
        paths, labels, empty = [], [], []
        for label, name in enumerate(classes):
            found = _images_below(root, name)
            paths += found
            labels += [label] * len(found)
            if not found:
                empty.append(name)
        if empty:
            raise ValueError(
                f'{len(empty)} class folders in {osp.abspath(root)} hold no image '
                f'({", ".join(IMAGE_SUFFIXES)}), e.g. {empty[:5]}; fill or remove them'
            )
        return Samples(paths, np.array(labels, dtype=np.int64), classes)


def _images_below(root: str, name: str) -> list[str]:
    """Sorted paths of the images of class folder ``name``, relative to ``root``."""
    found = []
    # A link to a folder above would bring the class in again, and all others with it.
    seen = _with_parents(root) | _with_parents(osp.join(root, name))
    for folder, subfolders, files in os.walk(osp.join(root, name), followlinks=True):
        subfolders[:] = [sub for sub in sorted(subfolders) if sub[0] != '.' and _add(osp.join(folder, sub), seen)]
        relative = osp.relpath(folder, root)
        found += [osp.join(relative, f) for f in files if f[0] != '.' and f.lower().endswith(IMAGE_SUFFIXES)]
    return sorted(found)


def _with_parents(folder: str) -> set[str]:
    """The folder and all folders it is in, without links."""
    path = Path(osp.realpath(folder))
    return {str(each) for each in (path, *path.parents)}


def _add(folder: str, seen: set[str]) -> bool:
    """Whether the folder is new to ``seen``, which has it then."""
    path = osp.realpath(folder)
    new = path not in seen
    seen.add(path)
    return new
