"""Check that a data set is whole: classes and images of each split against the official counts, and every image opens.

python tools/misc/verify_dataset.py CUB200 --data-root data/CUB_200_2011
python tools/misc/verify_dataset.py configs/iaa/iaa_ms_r50_cub.py --num-workers 8

A config stands for the data sets of its loaders; their official splits are checked, whatever part a loader takes.
Data sets without official counts (your own folders and lists, and reduced copies) are checked as the loaders take
them. The exit code is 1 if anything is off.
"""

import argparse
import json
import os.path as osp
import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from mmengine.config import Config
from mmengine.fileio import get
from mmengine.registry import init_default_scope

from mmdml.datasets import RetrievalDataset
from mmdml.datasets.preparation.counts import SplitReport, load_split, official_splits, retrieval_class
from mmdml.utils.dataset_configs import leaf_datasets
from mmdml.utils.progress import ProgressLine

SHOWN = 20
SLICE = 1000
#: Keys that say how a loader uses a data set, not which one it is.
USE = (
    *('val_classes', 'val_seed', 'pipeline', 'on_unreadable', 'seed', 'test_mode'),
    *('lazy_init', 'serialize_data', '_scope_'),
)

# Second bytes of the marks of a JPEG (ISO/IEC 10918-1, table B.1).
_START_OF_SCAN = 0xDA
_NO_MARK = (0x00, 0xFF)
_WITHOUT_LENGTH = (0x01, *range(0xD0, 0xDA))

Counts = tuple[int, int] | None


@dataclass
class Source:
    """A data set to check.

    Attributes:
        type_name: registered name.
        options: of the data set, without those of a split.
        splits: for each split, the options that build its parts, and its official counts.
    """

    type_name: str
    options: dict[str, Any]
    splits: dict[str, tuple[list[dict], Counts]] = field(default_factory=dict)


# ---- what to check ---------------------------------------------------------------------------------------------------


def dataset_configs(config: dict) -> Iterator[dict]:
    """Data sets of the loaders, also those inside concatenations and wrappers."""
    for phase in ('train', 'val', 'test'):
        loader = config.get(f'{phase}_dataloader')
        if loader:
            yield from leaf_datasets(loader['dataset'])


def sources_of_config(configs: Iterable[dict]) -> list[Source]:
    """Each distinct data set once, with its official splits or, where it has none, those that the loaders take."""
    sources: list[Source] = []
    for config in configs:
        name = config['type'].rpartition('.')[2]
        options = {key: value for key, value in config.items() if key not in (*USE, 'type', 'split')}
        part = {key: config[key] for key in ('split', 'val_classes', 'val_seed') if key in config}
        official = official_splits(name, options)
        has_counts = any(expected for _, expected in official.values())
        if has_counts:
            # The split decides which test list is read.
            taken = {key for parts, _ in official.values() for option in parts for key in option}
            options = {key: value for key, value in options.items() if key not in taken}
        source = next((each for each in sources if (each.type_name, each.options) == (name, options)), None)
        if source is None:
            source = Source(name, options, dict(official) if has_counts else {})
            sources.append(source)
        if not has_counts:
            source.splits.setdefault(part.get('split', 'train'), ([part], None))
    return sources


def sources_of(what: str, data_root: str | None, split: str | None) -> list[Source]:
    """Data sets that a command line names.

    Args:
        what: a config file, or the registered name of a data set.
        data_root: replaces the folder, of which there must be one.
        split: check this one only.

    Raises:
        ValueError: an unknown name, a split that none of them has, or one folder for what comes from several.
    """
    if what.endswith('.py') or osp.isfile(what):
        config = Config.fromfile(what)
        init_default_scope(config.get('default_scope', 'mmdml'))
        sources = sources_of_config(dataset.to_dict() for dataset in dataset_configs(config))
        if not sources:
            raise ValueError(f'{what} has no train_dataloader, val_dataloader or test_dataloader')
    else:
        retrieval_class(what)
        sources = [Source(what, {}, official_splits(what))]
    if data_root is not None:
        places = {(source.type_name, source.options.get('data_root')) for source in sources}
        if len(places) > 1:
            named = ', '.join(f'{name} in {folder}' for name, folder in sorted(places, key=str))
            raise ValueError(f'--data-root takes the place of one folder, but the config has {len(places)}: {named}')
        for source in sources:
            source.options['data_root'] = data_root
    if split is not None:
        known = list(dict.fromkeys(name for source in sources for name in source.splits))
        if split not in known:
            raise ValueError(f'--split {split} is unknown, choose one of {", ".join(known)}')
        for source in sources:
            source.splits = {name: value for name, value in source.splits.items() if name == split}
    return [source for source in sources if source.splits]


# ---- images ----------------------------------------------------------------------------------------------------------


def image_problem(path: str) -> str:
    """Why OpenCV does not read a picture as a whole, ``''`` if it does."""
    try:
        data = get(path)
    except OSError as error:
        return 'is missing' if isinstance(error, FileNotFoundError) else f'cannot be read: {error.strerror or error}'
    if not data:
        return 'is empty'
    # OpenCV 5 refuses such a picture, OpenCV 4 fills it up with grey.
    if data[:2] == b'\xff\xd8' and is_cut_jpeg(data):
        return 'is cut short'
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        return f'cannot be decoded: {error}'.strip()
    if image is None:
        return f'is no picture that OpenCV decodes; it begins with {data[:8]!r}'
    return ''


def is_cut_jpeg(data: bytes) -> bool:
    """Whether a JPEG has no end mark behind the start of its first scan.

    Segments are skipped by their lengths: the thumbnail in one of them is a JPEG, with marks of its own, and so may be
    what follows the end mark (a film, other pictures), which is no fault.
    """
    at = 2
    # Each turn begins at a mark, after fill bytes or garbage that decoders skip as well.
    while (at := data.find(b'\xff', at)) >= 0 and at + 1 < len(data):
        mark = data[at + 1]
        if mark == _START_OF_SCAN:
            return data.find(b'\xff\xd9', at) < 0
        if mark in _NO_MARK:
            at += 1
        elif mark in _WITHOUT_LENGTH:
            at += 2
        else:
            at += 2 + int.from_bytes(data[at + 2 : at + 4], 'big')
    return True


def images_of(reports: Sequence[SplitReport]) -> dict[str, tuple[RetrievalDataset, int]]:
    """Each distinct image of some splits, with a data set and the index it has there."""
    found: dict[str, tuple[RetrievalDataset, int]] = {}
    for report in reports:
        for dataset in report.datasets:
            for index in range(len(dataset)):
                found.setdefault(dataset.get_data_info(index)['img_path'], (dataset, index))
    return found


def open_images(images: dict[str, tuple[RetrievalDataset, int]], num_workers: int) -> list[tuple[str, str]]:
    """Path and problem of every image that is broken, in the order of the data set."""

    def problem(item: tuple[str, tuple[RetrievalDataset, int]]) -> tuple[str, str]:
        path, (dataset, index) = item
        # Pixels that the data set holds in memory need no file.
        info = dataset.open_image(dataset.get_data_info(index))
        return path, '' if 'img' in info else image_problem(path)

    items, broken = list(images.items()), []
    # OpenCV decodes outside Python's lock, so threads are enough.
    with ThreadPoolExecutor(num_workers) as pool, ProgressLine('images', len(images)) as progress:
        # In slices: a pool queues all that it gets at once.
        for start in range(0, len(items), SLICE):
            for result in pool.map(problem, items[start : start + SLICE]):
                progress.add(1)
                if result[1]:
                    broken.append(result)
    return broken


# ---- report ----------------------------------------------------------------------------------------------------------


def check(source: Source, open_them: bool, num_workers: int) -> dict[str, Any]:
    """Load the splits of a data set and open their images; the report is made of plain values."""
    reports = [
        load_split(name, source.type_name, source.options, parts, expected)
        for name, (parts, expected) in source.splits.items()
    ]
    roots = [part.data_root for report in reports for part in report.datasets]
    found: dict[str, Any] = dict(
        dataset=source.type_name,
        data_root=roots[0] if roots else source.options.get('data_root', ''),
        splits=[_split_values(report) for report in reports],
        images=None,
    )
    if open_them:
        images = images_of(reports)
        broken = open_images(images, num_workers)
        found['images'] = dict(
            opened=len(images) - len(broken), broken=[dict(path=path, problem=problem) for path, problem in broken]
        )
    wrong = any(split['problem'] for split in found['splits'])
    found['ok'] = not wrong and not (found['images'] and found['images']['broken'])
    return found


def _split_values(report: SplitReport) -> dict[str, Any]:
    classes, images = (None, None) if report.error else report.found
    expected = dict(zip(('classes', 'images'), report.expected, strict=True)) if report.expected else None
    return dict(split=report.name, classes=classes, images=images, expected=expected, problem=report.problem)


def as_text(found: dict[str, Any]) -> str:
    """The report for people."""
    lines = [f'{found["dataset"]} in {osp.abspath(found["data_root"])}' if found['data_root'] else found['dataset']]
    rows = [('split', 'classes', 'expected', 'images', 'expected', '')]
    for split in found['splits']:
        expected = split['expected'] or dict(classes=None, images=None)
        numbers = (split['classes'], expected['classes'], split['images'], expected['images'])
        # An error is long: it goes below the table.
        mark = '' if split['expected'] or split['problem'] else 'no official count'
        rows.append((split['split'], *map(_number, numbers), 'WRONG' if split['problem'] else mark or 'ok'))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for name, *cells, mark in rows:
        padded = '  '.join(f'{cell:>{width}}' for cell, width in zip(cells, widths[1:-1], strict=True))
        lines.append(f'  {name:<{widths[0]}}  {padded}  {mark}'.rstrip())
    lines += [f'split {split["split"]}: {split["problem"]}' for split in found['splits'] if split['problem']]
    if found['images'] is not None:
        broken = found['images']['broken']
        lines.append(f'{found["images"]["opened"]:,} images open, {len(broken):,} do not')
        lines += [f'  {each["path"]} {each["problem"]}' for each in broken[:SHOWN]]
        if len(broken) > SHOWN:
            lines.append(f'  and {len(broken) - SHOWN:,} more')
    return '\n'.join(lines)


def _number(value: int | None) -> str:
    return '-' if value is None else f'{value:,}'


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the reports; the exit code says whether anything is off."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('what', metavar='CONFIG_OR_TYPE', help='config file, or name of a data set such as CUB200')
    parser.add_argument('--data-root', help="folder of the data set. Default: the config's, or that of the data set")
    parser.add_argument('--split', help='check this split only, e.g. train, test, query, small')
    parser.add_argument('--num-workers', type=int, default=4, help='images to open at a time. Default: %(default)s')
    parser.add_argument('--no-images', action='store_true', help='count only, open no image')
    parser.add_argument('--json', action='store_true', help='print JSON, with all broken images')
    args = parser.parse_args(arguments)
    if args.num_workers < 1:
        parser.error(f'--num-workers {args.num_workers} must be 1 or more')
    try:
        sources = sources_of(args.what, args.data_root, args.split)
        reports = [check(source, not args.no_images, args.num_workers) for source in sources]
    except (OSError, ValueError, TypeError) as error:
        # TypeError: an option that the data set needs or does not know, e.g. ImageList without ann_file.
        raise SystemExit(f'{args.what}: {error}') from error
    print(json.dumps(reports, indent=2) if args.json else '\n\n'.join(map(as_text, reports)))
    return int(not all(report['ok'] for report in reports))


if __name__ == '__main__':
    sys.exit(main())
