"""Contact sheets of a dataset as the model will see it: one row per class, or one per image with all stages."""

import os
import os.path as osp
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from mmdml.datasets import FeatureFile
from mmdml.utils.seeding import Stream, numpy_generator
from mmdml.visualization.retrieved import Pictures
from mmdml.visualization.tiles import sheet, tile, write_picture

#: What a sheet shows: the loaded images, those that the model gets, or every stage between.
MODES = ('original', 'transformed', 'pipeline-grid')
ROWS_PER_SHEET = 8

Stage = tuple[str, np.ndarray]


class RecordStages:
    """Run transforms in turn, and return the image as it was after each of them, ``(H, W[, 3])`` in RGB."""

    def __init__(self, transforms: Sequence[Callable], last: int | None = None) -> None:
        self.transforms = transforms
        #: Stages after which the pipeline is left; None for all.
        self.last = last

    def __call__(self, results: dict) -> dict:
        label, path = results['gt_label'], results['img_path']
        stages: list[Stage] = [('in memory', _rgb(results['img']))] if 'img' in results else []
        for transform in self.transforms:
            if self.last is not None and len(stages) >= self.last:
                break
            results = transform(results)
            if 'img' in results:
                stages.append((type(transform).__name__, _rgb(results['img'])))
        if not stages:
            raise ValueError(f'no transform of the pipeline loads an image to results["img"] for {path}')
        return dict(stages=stages, label=label, path=path)


def pictures_of_dataset(dataset: Any) -> Pictures:
    """Return what reads the images of an mmdml dataset as they are before any transform but the loading one."""
    _refuse_features(dataset)
    view = dataset.with_pipeline([RecordStages(dataset.pipeline.transforms, last=1)])
    return lambda row: view[row]['stages'][0][1]


def write_contact_sheets(
    dataset: Any,
    out: str,
    name: str,
    number: int = 32,
    per_class: int = 4,
    mode: str = 'transformed',
    epoch: int = 0,
    seed: int = 0,
) -> list[str]:
    """Write random images of random classes as PNG files of eight rows.

    Args:
        dataset: an mmdml dataset.
        out: folder, made if need be.
        name: of the files, before ``_000.png``.
        number: images, at least 1.
        per_class: images in a row, at least 1.
        mode: one of :data:`MODES`.
        epoch: of the augmentation.
        seed: of the choice and of the augmentation.

    Returns:
        The files.

    Raises:
        ValueError: a number below 1 or an unknown mode; a dataset of features, or a pipeline that loads no image.
        OSError: a file cannot be read or written.
    """
    if number < 1 or per_class < 1:
        raise ValueError('--number and --images-per-class must be 1 or more')
    if mode not in MODES:
        raise ValueError(f'mode must be one of {", ".join(MODES)}, got {mode!r}')
    _refuse_features(dataset)
    dataset.set_seed(seed)
    view = dataset.with_pipeline([RecordStages(dataset.pipeline.transforms)])
    view.set_epoch(epoch)
    rows = list(_rows(view, choose_images(dataset.labels, number, per_class, seed), dataset.metainfo['classes'], mode))
    across, paths = max(map(len, rows)), []
    empty = np.full_like(rows[0][0], 250)
    os.makedirs(out, exist_ok=True)
    for start in range(0, len(rows), ROWS_PER_SHEET):
        # All files are equally wide.
        part = [row + [empty] * (across - len(row)) for row in rows[start : start + ROWS_PER_SHEET]]
        paths.append(write_picture(osp.join(out, f'{name}_{start // ROWS_PER_SHEET:03d}.png'), sheet(part)))
    return paths


def choose_images(labels: np.ndarray, number: int, per_class: int, seed: int) -> list[list[int]]:
    """Rows of image indices: random classes, and random images of each; ``number`` images or fewer."""
    generator = numpy_generator(Stream.PICTURES, seed)
    rows: list[list[int]] = []
    for label in generator.permutation(np.unique(labels)):
        left = number - sum(map(len, rows))
        if left <= 0:
            break
        rows.append(generator.permutation(np.flatnonzero(labels == label))[: min(per_class, left)].tolist())
    return rows


def _refuse_features(dataset: Any) -> None:
    if any(isinstance(part, FeatureFile) for part in getattr(dataset, 'datasets', [dataset])):
        raise ValueError(
            'the dataset holds features, not pictures: there is nothing to draw. mmdml draw FILE.npz draws what they '
            'retrieve, and the pictures are drawn from their own folder: mmdml browse FOLDER'
        )


def _rows(view: Any, rows: list[list[int]], classes: Sequence[str], mode: str) -> Iterator[list[np.ndarray]]:
    """Rows of tiles: images of one class, or, for a pipeline grid, the stages of one image."""
    for indices in rows:
        items = [view[index] for index in indices]
        if mode == 'pipeline-grid':
            for item in items:
                yield [tile(image, [name]) for name, image in item['stages']]
        else:
            stage = 0 if mode == 'original' else -1
            # Images without labels show their file names.
            names = [classes[item['label']] if item['label'] >= 0 else osp.basename(item['path']) for item in items]
            yield [tile(item['stages'][stage][1], [name]) for item, name in zip(items, names, strict=True)]


def _rgb(image: np.ndarray) -> np.ndarray:
    return image[:, :, ::-1].copy() if image.ndim == 3 and image.shape[2] == 3 else image.copy()
