"""Plans of experiments: which config is trained with which seeds and options.

A plan is a YAML file::

    csv: experiments/results.csv            # where finished runs go (default)
    work_root: work_dirs/experiments        # one folder per run below it (default)
    options: {}                             # config overrides of every item
    order: items                            # seeds innermost (default); or seeds: every item with the first seed, ...
    items:
      - name: iaa_ms
        config: configs/iaa/iaa_ms_conv4_omniglot.py
        seeds: [0, 1, 2]
        options: {train_cfg.max_epochs: 15}             # overrides of this item
        matrix: {model.head.loss.beta: [40, 50]}        # one run per combination and seed; a value that is a mapping
                                                        # sets several options at once: {data: [{a: 1, b: 2}]}
        estimate_minutes: 5                             # of one run, until a finished run gives a better estimate
"""

import copy
import functools
import hashlib
import itertools
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from yaml_files import LIST, MAPPING, NUMBER, TEXT, Kind, check_fields, read_yaml

_NAME = re.compile(r'[A-Za-z0-9][A-Za-z0-9_.+-]*')


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
    """Return the first 12 hex digits of the SHA-256 of a JSON-able value; the order of keys does not matter."""
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


# ---- reading a plan --------------------------------------------------------------------------------------------------


def _is_seed(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**32  # what NumPy takes


_ORDER = Kind('items or seeds', lambda value: value in ('items', 'seeds'))
_ITEM_NAME = Kind(
    'letters, digits and the signs _ . + -, as it becomes the name of a folder',
    lambda value: isinstance(value, str) and _NAME.fullmatch(value) is not None,
)
_SEEDS = Kind(
    'a list of whole numbers below 2**32 such as [0, 1, 2]',
    lambda value: LIST.fits(value) and all(map(_is_seed, value)),
)
_MATRIX = Kind(
    'a mapping of option keys to lists of values, such as {model.head.loss.beta: [40, 50]}',
    lambda value: MAPPING.fits(value) and all(map(LIST.fits, value.values())),
)
_MINUTES = Kind('a finite number above 0', lambda value: NUMBER.fits(value) and 0 < value < float('inf'))

_PLAN = {'csv': TEXT, 'work_root': TEXT, 'options': MAPPING, 'order': _ORDER, 'items': LIST}
_ITEM = {
    'name': _ITEM_NAME,
    'config': TEXT,
    'seeds': _SEEDS,
    'options': MAPPING,
    'matrix': _MATRIX,
    'estimate_minutes': _MINUTES,
}


def load_plan(path: str | Path) -> Plan:
    """Read a plan file to run it, see `read_plan`.

    Raises:
        FileNotFoundError: if one of its configs is not there.
    """
    plan = read_plan(path)
    for run in plan.runs:
        if not Path(run.config).is_file():
            raise FileNotFoundError(f'{path}: item {run.name}: there is no config {run.config} in {Path.cwd()}')
    return plan


def planned_runs(folder: Path) -> dict[Path, list[Run]]:
    """Return the runs of all plans in a folder, by the CSV they go to."""
    found: dict[Path, list[Run]] = {}
    for path in sorted(folder.glob('*.yml')):
        if path.name not in ('comparisons.yml', 'tables.yml'):
            plan = read_plan(path)
            found.setdefault(plan.csv, []).extend(plan.runs)
    return found


def read_plan(path: str | Path) -> Plan:
    """Read a plan file.

    Args:
        path: YAML file as described at the top of this module.

    Returns:
        Its runs in the order written, seeds innermost, or outermost with ``order: seeds``.

    Raises:
        ValueError: for unknown or missing keys, a value of the wrong kind, a name that leads out of ``work_root``, an
            option that the command line cannot carry, or a run listed twice; names file, item and key.
        FileNotFoundError: if the plan is not there.
    """
    content = read_yaml(path)
    check_fields(content, _PLAN, ('items',), str(path))
    runs: dict[str, Run] = {}
    for number, item in enumerate(content['items']):
        name = item.get('name', number) if isinstance(item, dict) else number
        where = f'{path}: item {name}'
        check_fields(item, _ITEM, ('name', 'config', 'seeds'), where)
        for run in _runs(item, content.get('options') or {}, where):
            if run.id in runs:
                raise ValueError(f'{where}: the run "{run}" is listed twice')
            runs[run.id] = run
    ordered = list(runs.values())
    if content.get('order') == 'seeds':
        ordered.sort(key=lambda run: run.seed)  # keeps the order written among runs of a seed
    return Plan(
        tuple(ordered),
        Path(content.get('csv') or 'experiments/results.csv'),
        Path(content.get('work_root') or 'work_dirs/experiments'),
    )


def _runs(item: dict[str, Any], shared_options: dict[str, Any], where: str) -> Iterator[Run]:
    """Yield the runs of one item."""
    matrix = item.get('matrix') or {}
    for values in itertools.product(*matrix.values()):
        options = {**shared_options, **(item.get('options') or {})}
        for key, value in zip(matrix, values, strict=True):
            options.update(value if isinstance(value, dict) else {key: value})
        for key, value in options.items():
            if key == 'randomness.seed':
                raise ValueError(f'{where}: option {key}: the seeds of an item stand under "seeds"')
            try:
                format_option(value)
            except ValueError as error:
                raise ValueError(f'{where}: option {key}: {error}') from None
        for seed in item['seeds']:
            yield Run(item['name'], Path(item['config']).as_posix(), seed, options, item.get('estimate_minutes'))


# ---- the command line of a run ---------------------------------------------------------------------------------------


def format_option(value: Any) -> str:
    """Write an override's value as ``--cfg-options`` reads it back to the same value.

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
    """Return the arguments of ``tools/train.py`` for one run."""
    arguments = [run.config]
    if work_dir is not None:
        arguments += ['--work-dir', str(work_dir)]
    if resume:
        arguments.append('--resume')
    arguments += ['--cfg-options', f'randomness.seed={run.seed}']
    return arguments + [f'{key}={format_option(value)}' for key, value in sorted(run.options.items())]


def merged_config(run: Run) -> Any:
    """Return the run's config with its options, as ``tools/train.py`` sees it.

    Raises:
        ValueError: if the config cannot be read, or the options do not fit; names item, config and mistake.
    """
    try:
        config = copy.deepcopy(_read_config(run.config, Path(run.config).stat().st_mtime_ns))
        config.merge_from_dict(run.options)
    except Exception as error:  # a config is code, and may fail in any way
        words = ' '.join(f'{type(error).__name__}: {error}'.split())
        raise ValueError(f'item {run.name}: {run.config} cannot be read with its options: {words}') from None
    return config


@functools.cache
def _read_config(path: str, changed: int) -> Any:
    """Read a config once: a plan names it for many runs."""
    from mmengine.config import Config

    return Config.fromfile(path)


def config_hash(config: Any) -> str:
    """Return 12 hex digits of a merged config's content, by which a finished run is known to have used this config."""
    return digest(config.to_dict())
