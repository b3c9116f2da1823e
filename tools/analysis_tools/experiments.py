"""What a plan of experiments is, and the CSV of finished runs: the pure part of ``tools/analysis_tools``.

A plan is a YAML file::

    csv: experiments/results.csv            # where finished runs go (default)
    work_root: work_dirs/experiments        # one folder per run below it (default)
    options: {}                             # config overrides of every item
    items:
      - name: iaa_ms
        config: configs/iaa/iaa_ms_conv4_omniglot.py
        seeds: [0, 1, 2]
        options: {train_cfg.max_epochs: 15}             # overrides of this item
        matrix: {model.head.loss.beta: [40, 50]}        # one run per combination and seed
        estimate_minutes: 5                             # of one run, until a finished run tells better
"""

import csv
import fcntl
import hashlib
import itertools
import json
import os
import statistics
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

#: Columns of the CSV that are no metric, in order; the metrics stand between ``options`` and ``updates``.
LEADING_COLUMNS = ('run', 'name', 'config', 'seed', 'options')
TRAILING_COLUMNS = (
    'updates',
    'seconds',
    'jobs',
    'commit',
    'torch',
    'mmengine',
    'mmdml',
    'python',
    'machine',
    'date',
    'config_hash',
    'command',
)

_PLAN_KEYS = {'csv', 'work_root', 'options', 'items'}
_ITEM_KEYS = {'name', 'config', 'seeds', 'options', 'matrix', 'estimate_minutes'}


@dataclass(frozen=True)
class Run:
    """One training run: a config, a seed and overrides.

    Attributes:
        name: name of the plan's item; may be shared by several runs and does not enter the id.
        config: path of the config as the plan writes it, with forward slashes.
        seed: value of ``randomness.seed``.
        options: overrides ``{dotted.key: value}``.
        estimate_minutes: the plan's guess, or None.
    """

    name: str
    config: str
    seed: int
    options: dict[str, Any] = field(default_factory=dict)
    estimate_minutes: float | None = None

    @property
    def id(self) -> str:
        """12 hex digits that depend on config path, seed and options (in any order), and on nothing else."""
        return digest([self.config, self.seed, self.options])

    def __str__(self) -> str:
        options = ''.join(f' {key}={format_option(value)}' for key, value in sorted(self.options.items()))
        return f'{self.name} {self.config} seed={self.seed}{options}'


@dataclass(frozen=True)
class Plan:
    """A list of runs and the places they write to."""

    runs: tuple[Run, ...]
    csv: Path
    work_root: Path


def digest(value: Any) -> str:
    """First 12 hex digits of the SHA-256 of a JSON-able value; the order of keys does not matter."""
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def load_plan(path: str | Path) -> Plan:
    """Read a plan file.

    Args:
        path: YAML file as described at the top of this module.

    Returns:
        Its runs in the order written, seeds innermost.

    Raises:
        ValueError: for unknown or missing keys, an option that the command line cannot carry, or a run listed twice.
    """
    with open(path, encoding='utf-8') as file:
        content = yaml.safe_load(file)
    if not isinstance(content, dict):
        raise ValueError(f'{path}: a plan is a mapping with the key "items", got {type(content).__name__}')
    _check_keys(content, _PLAN_KEYS, {'items'}, str(path))
    runs: dict[str, Run] = {}
    for number, item in enumerate(content['items']):
        where = f'{path}: item {item.get("name", number)}'
        _check_keys(item, _ITEM_KEYS, {'name', 'config', 'seeds'}, where)
        matrix = item.get('matrix') or {}
        for values in itertools.product(*matrix.values()):
            options = {
                **(content.get('options') or {}),
                **(item.get('options') or {}),
                **dict(zip(matrix, values, strict=True)),
            }
            for key, value in options.items():
                try:
                    format_option(value)
                except ValueError as error:
                    raise ValueError(f'{where}: option {key}: {error}') from None
            for seed in item['seeds']:
                run = Run(item['name'], Path(item['config']).as_posix(), seed, options, item.get('estimate_minutes'))
                if run.id in runs:
                    raise ValueError(f'{where}: the run "{run}" is listed twice')
                runs[run.id] = run
    return Plan(
        tuple(runs.values()),
        Path(content.get('csv', 'experiments/results.csv')),
        Path(content.get('work_root', 'work_dirs/experiments')),
    )


def _check_keys(mapping: dict[str, Any], known: set, required: set, where: str) -> None:
    unknown, missing = set(mapping) - known, required - set(mapping)
    if unknown or missing:
        raise ValueError(
            f'{where}: unknown keys {sorted(unknown)}, missing keys {sorted(missing)}; known: {sorted(known)}'
        )


def format_option(value: Any) -> str:
    """An override's value as ``--cfg-options`` reads it back to the same value.

    Raises:
        ValueError: for a value that MMEngine's ``DictAction`` would read as something else.
    """
    from mmengine.config import DictAction

    text = '[' + ','.join(map(format_option, value)) + ']' if isinstance(value, list) else str(value)
    read = DictAction._parse_iterable(text)
    if read != value or type(read) is not type(value):
        raise ValueError(f'{value!r} cannot be written on the command line (it would be read as {read!r})')
    return text


def train_arguments(run: Run, work_dir: str | Path | None = None, resume: bool = False) -> list[str]:
    """Arguments of ``tools/train.py`` for one run."""
    arguments = [run.config]
    if work_dir is not None:
        arguments += ['--work-dir', str(work_dir)]
    if resume:
        arguments.append('--resume')
    arguments += ['--cfg-options', f'randomness.seed={run.seed}']
    return arguments + [f'{key}={format_option(value)}' for key, value in sorted(run.options.items())]


# ---- results ---------------------------------------------------------------------------------------------------------


@contextmanager
def locked_folder(folder: str | Path, wait: bool = True) -> Iterator[int]:
    """Hold an advisory lock on a folder; needs no lock file.

    Args:
        folder: created if missing.
        wait: False raises ``BlockingIOError`` where another process holds the lock.

    Yields:
        The locked descriptor. A child process that inherits it keeps the lock until it ends too.
    """
    Path(folder).mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield descriptor
    finally:
        os.close(descriptor)


def read_rows(path: str | Path) -> list[dict[str, str]]:
    """Rows of the CSV of finished runs, empty if there is no such file."""
    if not Path(path).exists():
        return []
    with open(path, newline='', encoding='utf-8') as file:
        return list(csv.DictReader(file))


def append_row(path: str | Path, row: dict[str, Any]) -> bool:
    """Add a finished run to the CSV; safe with several writers, and a crash leaves the old file whole.

    A new metric adds a column; older rows leave it empty.

    Returns:
        False, and nothing is written, if the CSV already holds this run.
    """
    path = Path(path)
    with locked_folder(path.parent):
        rows = read_rows(path)
        if any(old['run'] == row['run'] for old in rows):
            return False
        rows.append({key: str(value) for key, value in row.items()})
        fixed = {*LEADING_COLUMNS, *TRAILING_COLUMNS}
        metrics = list(dict.fromkeys(key for each in rows for key in each if key not in fixed))
        # Written beside and moved over: a reader sees the old file or the new one, never half of it.
        beside = path.with_name(f'{path.name}.{os.getpid()}.tmp')
        with open(beside, 'w', newline='', encoding='utf-8') as file:
            writer = csv.DictWriter(file, [*LEADING_COLUMNS, *metrics, *TRAILING_COLUMNS], lineterminator='\n')
            writer.writeheader()
            writer.writerows(rows)
        os.replace(beside, path)
    return True


def metric_names(rows: Sequence[dict[str, str]]) -> list[str]:
    """Columns that hold metrics, in the order of the CSV."""
    fixed = {*LEADING_COLUMNS, *TRAILING_COLUMNS}
    return list(dict.fromkeys(key for row in rows for key in row if key not in fixed))


def last_evaluation(work_dir: str | Path) -> tuple[int, dict[str, float]]:
    """The last validation that a run logged, over all its attempts.

    MMEngine appends lines of JSON to ``<work_dir>/<time>/vis_data/scalars.json``. Lines of training hold ``iter``;
    lines of a validation hold metrics called ``prefix/name`` and, in ``step``, the epoch or iteration.

    Returns:
        The step, and the metrics.

    Raises:
        ValueError: if no validation was logged.
    """
    found: tuple[int, dict[str, float]] | None = None
    # Folders are named by their start, so the sorted order is the order of the attempts.
    for log in sorted(Path(work_dir).glob('*/vis_data/scalars.json')):
        for line in log.read_text(encoding='utf-8').splitlines():
            scalars = json.loads(line)
            metrics = {key: value for key, value in scalars.items() if '/' in key}
            if metrics and 'iter' not in scalars:
                found = scalars['step'], metrics
    if found is None:
        raise ValueError(f'{work_dir}: no validation line in */vis_data/scalars.json; is validation switched off?')
    return found


def read_progress(work_dir: str | Path) -> dict[str, int]:
    """``epoch`` and ``iter`` that the last checkpoint of a run has reached.

    Raises:
        ValueError: if the run wrote no checkpoint.
    """
    marker = Path(work_dir) / 'last_checkpoint'
    if not marker.exists():
        raise ValueError(f'{work_dir}: no checkpoint was written, so the number of updates is unknown')
    from mmengine.runner import CheckpointLoader

    import mmdml.registry  # noqa: F401  from here on a checkpoint that would run code is refused

    # By its name alone: the folder may have been moved.
    path = marker.parent / Path(marker.read_text().strip()).name
    meta = CheckpointLoader.load_checkpoint(str(path), map_location='cpu', logger='silent')['meta']
    return {'epoch': meta['epoch'], 'iter': meta['iter']}


def final_metrics(work_dir: str | Path) -> tuple[int, dict[str, float]]:
    """Iterations done and the metrics after the last of them.

    No epoch is ever chosen by its scores: the last evaluation must belong to the last epoch.

    Raises:
        ValueError: if the run was not evaluated at its end.
    """
    step, metrics = last_evaluation(work_dir)
    progress = read_progress(work_dir)
    if step not in progress.values():
        raise ValueError(
            f'{work_dir}: the last evaluation is of step {step}, but training ended at epoch {progress["epoch"]}, '
            f'iteration {progress["iter"]}; choose train_cfg.val_interval so that the last epoch is evaluated'
        )
    return progress['iter'], metrics


# ---- estimates -------------------------------------------------------------------------------------------------------


def merged_config(run: Run) -> Any:
    """The run's config with its options, as ``tools/train.py`` sees it."""
    from mmengine.config import Config

    config = Config.fromfile(run.config)
    config.merge_from_dict(run.options)
    return config


def config_hash(config: Any) -> str:
    """12 hex digits of a merged config's content: tells whether a finished run used the config as it is now."""
    return digest(config.to_dict())


def run_length(config: Any) -> float:
    """Length of a run in a unit that two runs of one config share: iterations, or else epochs."""
    loop = config.train_cfg
    if 'max_iters' in loop:
        return loop.max_iters
    sampler = config.train_dataloader.get('sampler') or {}
    return loop.max_epochs * (sampler.get('num_batches') or 1)


def estimate_seconds(run: Run, rows: Sequence[dict[str, str]]) -> float | None:
    """Expected time of one run if it has the machine to itself.

    The median over the finished runs of the same config of seconds per update, times the updates planned; without
    such a run the plan's ``estimate_minutes``; None if that is not given either. A run that shared the machine with
    others counts with its share, so the sum over a plan holds for any number of runs at a time.
    """
    planned = run_length(merged_config(run))
    known = []
    for row in rows:
        if row['config'] == run.config:
            done = Run(row['name'], row['config'], int(row['seed']), json.loads(row['options']))
            updates = float(row['updates']) * planned / run_length(merged_config(done))
            known.append(float(row['seconds']) / float(row['jobs']) / float(row['updates']) * updates)
    if known:
        return statistics.median(known)
    return None if run.estimate_minutes is None else 60 * run.estimate_minutes
