"""Whether datasets are whole: what of a command line or config is checked, and the report."""

import os.path as osp
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope

from mmdml.datasets.preparation.counts import SplitReport, load_split, official_splits, retrieval_class
from mmdml.datasets.preparation.image_check import distinct_images, open_images
from mmdml.utils.dataset_configs import leaf_datasets
from mmdml.utils.names import printable

SHOWN = 20
#: Keys that say how a loader uses a dataset, not which one it is.
USE = (
    *('val_classes', 'val_seed', 'max_per_class', 'images_seed'),
    *('pipeline', 'on_unreadable', 'seed', 'test_mode'),
    *('lazy_init', 'serialize_data', '_scope_'),
)

Counts = tuple[int, int] | None


@dataclass
class Source:
    """A dataset to check.

    Attributes:
        type_name: registered name.
        options: of the dataset, without those of a split.
        splits: for each split, the options that build its parts, and its official counts.
    """

    type_name: str
    options: dict[str, Any]
    splits: dict[str, tuple[list[dict], Counts]] = field(default_factory=dict)


def dataset_configs(config: dict) -> Iterator[dict]:
    """Datasets of the loaders, also those inside concatenations and wrappers."""
    for phase in ('train', 'val', 'test'):
        loader = config.get(f'{phase}_dataloader')
        if loader:
            yield from leaf_datasets(loader['dataset'])


def sources_of_config(configs: Iterable[dict]) -> list[Source]:
    """Each distinct dataset once, with its official splits or, where it has none, those that the loaders take."""
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
    """Datasets that a command line names.

    Args:
        what: a config file, or the registered name of a dataset.
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


def check(source: Source, open_them: bool, num_workers: int, max_pixels: int | None) -> dict[str, Any]:
    """Load the splits of a dataset and open their images; the report is made of plain values."""
    reports = [
        load_split(name, source.type_name, source.options, parts, expected)
        for name, (parts, expected) in source.splits.items()
    ]
    datasets = [part for report in reports for part in report.datasets]
    roots = [part.data_root for part in datasets]
    found: dict[str, Any] = dict(
        dataset=source.type_name,
        data_root=roots[0] if roots else source.options.get('data_root', ''),
        splits=[_split_values(report) for report in reports],
        # Once, where several splits scan one folder.
        left_out=list(dict.fromkeys(printable(note) for part in datasets for note in part.notes)),
        images=None,
    )
    with_images = [part for part in datasets if part.has_images]
    if len(with_images) < len(datasets):
        found['left_out'].append('these are features; images that their paths name are not opened')
    if open_them and (with_images or not datasets):
        images = distinct_images(with_images)
        broken = open_images(images, num_workers, max_pixels)
        found['images'] = dict(
            opened=len(images) - len(broken),
            broken=[dict(path=printable(path), problem=printable(problem)) for path, problem in broken],
        )
    wrong = any(split['problem'] for split in found['splits'])
    found['ok'] = not wrong and not (found['images'] and found['images']['broken'])
    return found


def _split_values(report: SplitReport) -> dict[str, Any]:
    classes, images = (None, None) if report.error else report.found
    expected = dict(zip(('classes', 'images'), report.expected, strict=True)) if report.expected else None
    return dict(split=report.name, classes=classes, images=images, expected=expected, problem=printable(report.problem))


def as_text(found: dict[str, Any]) -> str:
    """Format the report for people; a line where no split can be read, for one reason."""
    problems = {split['problem'] for split in found['splits']}
    if len(problems) == 1 and all(split['images'] is None for split in found['splits']):
        return str(*problems)
    root = printable(osp.abspath(found['data_root']))
    lines = [f'{found["dataset"]} in {root}' if found['data_root'] else found['dataset']]
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
    lines += [f'note: {note}' for note in found['left_out']]
    if found['images'] is not None:
        broken = found['images']['broken']
        lines.append(f'{found["images"]["opened"]:,} images open, {len(broken):,} do not')
        lines += [f'  {each["path"]} {each["problem"]}' for each in broken[:SHOWN]]
        if len(broken) > SHOWN:
            lines.append(f'  and {len(broken) - SHOWN:,} more')
    return '\n'.join(lines)


def _number(value: int | None) -> str:
    return '-' if value is None else f'{value:,}'


def check_all(
    what: str, data_root: str | None, split: str | None, open_them: bool, num_workers: int, max_pixels: int | None
) -> list[dict[str, Any]]:
    """Return the reports of all datasets that a command line names.

    Args:
        what: as :func:`sources_of` takes it, with ``data_root`` and ``split``.
        data_root: as there.
        split: as there.
        open_them: open every image.
        num_workers: images to open at a time, at least 1.
        max_pixels: an image of more pixels is broken.

    Raises:
        ValueError: as :func:`sources_of`, and for what a dataset cannot be built of; begins with ``what``.
    """
    if num_workers < 1:
        raise ValueError(f'--num-workers {num_workers} must be 1 or more')
    logger = MMLogger.get_current_instance()
    level = logger.level
    # What datasets warn of is in the report, which may be read by a script.
    logger.setLevel('ERROR')
    try:
        return [check(source, open_them, num_workers, max_pixels) for source in sources_of(what, data_root, split)]
    except (OSError, ValueError, TypeError) as error:
        # TypeError: an option that the dataset needs or does not know, e.g. ImageList without ann_file.
        raise ValueError(f'{what}: {printable(error)}') from error
    finally:
        logger.setLevel(level)
