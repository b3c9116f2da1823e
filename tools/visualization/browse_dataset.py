"""Contact sheets of a dataset as the model will see it: one row per class.

python tools/visualization/browse_dataset.py CONFIG --output-dir sheets --mode transformed
"""

import argparse
import os
import os.path as osp
from collections.abc import Callable, Iterator, Sequence

import cv2
import numpy as np
from mmengine.config import Config, DictAction
from mmengine.registry import init_default_scope

import mmdml  # noqa: F401  lets a config outside the project name its base as mmdml::...
from mmdml.cli.errors import run_command
from mmdml.utils.names import printable

TILE, CAPTION, ROWS_PER_SHEET = 128, 18, 8

Stage = tuple[str, np.ndarray]


class RecordStages:
    """Run transforms in turn, and return the image as it was after each of them."""

    def __init__(self, transforms: Sequence[Callable]) -> None:
        self.transforms = transforms

    def __call__(self, results: dict) -> dict:
        label, path = results['gt_label'], results['img_path']
        stages: list[Stage] = [('in memory', results['img'].copy())] if 'img' in results else []
        for transform in self.transforms:
            results = transform(results)
            if 'img' in results:
                stages.append((type(transform).__name__, results['img'].copy()))
        if not stages:
            raise ValueError(f'no transform of the pipeline loads an image to results["img"] for {path}')
        return dict(stages=stages, label=label, path=path)


def choose_images(labels: np.ndarray, number: int, per_class: int, seed: int) -> list[list[int]]:
    """Rows of image indices: random classes, and random images of each; ``number`` images or fewer."""
    generator = np.random.default_rng(seed)
    rows: list[list[int]] = []
    for label in generator.permutation(np.unique(labels)):
        left = number - sum(map(len, rows))
        if left <= 0:
            break
        rows.append(generator.permutation(np.flatnonzero(labels == label))[: min(per_class, left)].tolist())
    return rows


def tile(image: np.ndarray, caption: str) -> np.ndarray:
    """``(TILE + CAPTION, TILE, 3)`` BGR: the image, fitted in without distortion, over its caption."""
    image = np.clip(image, 0, 255).astype(np.uint8)
    if image.ndim == 2 or image.shape[-1] == 1:
        image = cv2.cvtColor(image.reshape(image.shape[:2]), cv2.COLOR_GRAY2BGR)
    scale = TILE / max(image.shape[:2])
    size = [max(1, round(side * scale)) for side in image.shape[1::-1]]
    image = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST)
    canvas = np.full((TILE + CAPTION, TILE, 3), 40, np.uint8)
    top, left = (TILE - size[1]) // 2, (TILE - size[0]) // 2
    canvas[top : top + size[1], left : left + size[0]] = image
    # OpenCV ends the process at a name that is no UTF-8.
    caption, font_scale = printable(caption), 0.35
    while caption and cv2.getTextSize(caption, cv2.FONT_HERSHEY_SIMPLEX, font_scale, 1)[0][0] > TILE - 4:
        # The end of a class name tells more than its beginning: folders come first.
        caption = caption[1:]
    position = (2, TILE + CAPTION - 6)
    cv2.putText(canvas, caption, position, cv2.FONT_HERSHEY_SIMPLEX, font_scale, (255, 255, 255), 1, cv2.LINE_AA)
    return cv2.copyMakeBorder(canvas, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=(40, 40, 40))


def sheet_rows(view, rows: list[list[int]], classes: Sequence[str], mode: str) -> Iterator[list[np.ndarray]]:
    """Rows of tiles: images of one class, or, for a pipeline grid, the stages of one image."""
    for indices in rows:
        items = [view[index] for index in indices]
        if mode == 'pipeline-grid':
            for item in items:
                yield [tile(image, name) for name, image in item['stages']]
        else:
            stage = 0 if mode == 'original' else -1
            # Images without labels show their file names.
            names = [classes[item['label']] if item['label'] >= 0 else osp.basename(item['path']) for item in items]
            yield [tile(item['stages'][stage][1], name) for item, name in zip(items, names, strict=True)]


def write_sheets(rows: Iterator[list[np.ndarray]], output_dir: str, name: str) -> list[str]:
    """Stack rows to PNG files of ``ROWS_PER_SHEET`` rows."""
    rows = list(rows)
    width = max(map(len, rows))
    empty = np.full_like(rows[0][0], 40)
    bands = [np.hstack(row + [empty] * (width - len(row))) for row in rows]
    paths = []
    os.makedirs(output_dir, exist_ok=True)
    for start in range(0, len(bands), ROWS_PER_SHEET):
        path = osp.join(output_dir, f'{name}_{start // ROWS_PER_SHEET:03d}.png')
        if not cv2.imwrite(path, np.vstack(bands[start : start + ROWS_PER_SHEET])):
            raise OSError(f'cannot write {osp.abspath(path)}')
        paths.append(path)
    return paths


def parse_args() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description='Write contact sheets of a dataset')
    parser.add_argument('config', help='config file')
    parser.add_argument('--output-dir', '-o', required=True, help='folder for the PNG files')
    parser.add_argument('--phase', default='train', choices=('train', 'val', 'test'), help='which dataloader')
    parser.add_argument('--number', '-n', type=int, default=32, help='how many images')
    parser.add_argument('--images-per-class', '-k', type=int, default=4, help='images in a row')
    parser.add_argument('--mode', default='transformed', choices=('original', 'transformed', 'pipeline-grid'))
    parser.add_argument('--epoch', type=int, default=0, help='epoch of the augmentation')
    parser.add_argument('--seed', type=int, default=0, help='seed of the choice and of the augmentation')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, help='override settings, key=value')
    parser.add_argument('--debug', action='store_true', help='show the traceback of every error')
    return parser.parse_args()


def main() -> None:
    """Build the dataset of the config and write its sheets."""
    args = parse_args()
    cfg = Config.fromfile(args.config)
    if args.cfg_options:
        cfg.merge_from_dict(args.cfg_options)
    init_default_scope(cfg.get('default_scope', 'mmdml'))
    from mmdml.registry import DATASETS

    if args.number < 1 or args.images_per_class < 1:
        raise SystemExit('--number and --images-per-class must be 1 or more')
    loader = cfg.get(f'{args.phase}_dataloader')
    if loader is None:
        raise SystemExit(f'{args.config} has no {args.phase}_dataloader')
    dataset = DATASETS.build(loader.dataset)
    dataset.set_seed(args.seed)
    view = dataset.with_pipeline([RecordStages(dataset.pipeline.transforms)])
    view.set_epoch(args.epoch)
    chosen = choose_images(dataset.labels, args.number, args.images_per_class, args.seed)
    rows = sheet_rows(view, chosen, dataset.metainfo['classes'], args.mode)
    for path in write_sheets(rows, args.output_dir, f'{args.phase}_{args.mode}'):
        print(path)


if __name__ == '__main__':
    run_command(main)
