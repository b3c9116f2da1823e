"""The CSV of finished runs: read and append rows, and estimate from them how long a run takes."""

import csv
import fcntl
import json
import math
import os
import statistics
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from yaml_files import NUMBER

from experiments import Run, merged_config
from mmdml.utils.files import write_atomically
from mmdml.utils.tables import read_lines

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
_COLUMNS = frozenset({*LEADING_COLUMNS, *TRAILING_COLUMNS})
_NUMBERS = ('updates', 'seconds', 'jobs')
_REMEDY = 'restore the file from version control, or delete the line: its run is then trained again'

Row = dict[str, str]


# ---- the CSV ---------------------------------------------------------------------------------------------------------


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


def read_rows(path: str | Path, may_be_empty: bool = False) -> list[Row]:
    """Read the CSV of finished runs.

    Args:
        path: the CSV.
        may_be_empty: return no rows for a file that is not there yet, or that has none.

    Raises:
        ValueError: if the file is no text, is cut off, lacks a column, or a line has a value of the wrong kind; names
            file, line, column and remedy. Also if it has no row, unless that may be.
        FileNotFoundError: if the file is not there, unless that may be.
    """
    if may_be_empty and not Path(path).exists():
        return []
    lines = read_lines(str(path))
    reader = csv.reader((line + '\n' for line in lines), strict=True)
    rows: list[Row] = []
    header: list[str] = []
    while True:
        where = f'{path}, line {reader.line_num + 1}'
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise ValueError(f'{where}: {error}; {_REMEDY}') from None
        if cells is None:
            break
        if not header:
            header = cells
            missing = sorted(_COLUMNS - set(header))
            if missing or len(set(header)) < len(header):
                raise ValueError(f'{where}: the header must have every column once, it lacks {missing}: {header}')
            continue
        if len(cells) != len(header):
            raise ValueError(f'{where}: {len(cells)} values for {len(header)} columns; {_REMEDY}')
        rows.append(dict(zip(header, cells, strict=True)))
        _check_row(rows[-1], where)
    if not header:
        raise ValueError(f'{path} is empty; delete it, or restore it from version control')
    if not Path(path).read_bytes().endswith(b'\n'):
        raise ValueError(f'{path}, line {reader.line_num}: the file was cut off within the line; {_REMEDY}')
    if not (rows or may_be_empty):
        raise ValueError(f'{path} has a header and no row')
    return rows


def _check_row(row: Row, where: str) -> None:
    """Raise a ValueError for the first cell that is of the wrong kind. Only what names the run may not be empty."""
    for column, value in row.items():
        if column == 'options':
            right, words = _is_json_mapping(value), 'a JSON mapping'
        elif column == 'seed':
            right, words = value.isdecimal(), 'a whole number'
        elif column == 'updates':
            right, words = value == '' or value.isdecimal(), 'a whole number'
        elif column in ('run', 'config'):
            right, words = value != '', 'a text'
        elif column in _NUMBERS or column not in _COLUMNS:
            right, words = value == '' or is_number(value), 'a number'
        else:
            continue
        if not right:
            raise ValueError(f'{where}: {column} must be {words}, got {value!r}; {_REMEDY}')


def _is_json_mapping(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False


def is_number(text: str) -> bool:
    """Return whether a text is a finite number."""
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def append_row(path: str | Path, row: dict[str, Any], replace: bool = False) -> bool:
    """Add a finished run to the CSV; safe with several writers, and a kill at any moment leaves a whole file.

    A new metric adds a column; older rows leave it empty.

    Args:
        path: the CSV.
        row: values by column.
        replace: put the row in the place of one of the same run and another config hash.

    Returns:
        False, and nothing is written, if the CSV already holds this run.
    """
    # Writers that name the file by a link wait for the same lock.
    with locked_folder(Path(os.path.realpath(path)).parent):
        rows = read_rows(path, may_be_empty=True)
        if replace:
            rows = [old for old in rows if old['run'] != row['run'] or old['config_hash'] == row['config_hash']]
        if any(old['run'] == row['run'] for old in rows):
            return False
        rows.append({key: str(value) for key, value in row.items()})
        with write_atomically(path, 'w', newline='', encoding='utf-8') as file:
            columns = [*LEADING_COLUMNS, *metric_names(rows), *TRAILING_COLUMNS]
            writer = csv.DictWriter(file, columns, lineterminator='\n')
            writer.writeheader()
            writer.writerows(rows)
    return True


def metric_names(rows: Sequence[Row]) -> list[str]:
    """Return the columns that hold metrics, in the order of the CSV."""
    return list(dict.fromkeys(key for row in rows for key in row if key not in _COLUMNS))


# ---- estimates -------------------------------------------------------------------------------------------------------


def run_length(run: Run) -> tuple[float, int | None]:
    """Return iterations and 1, or epochs and their batches, None where the sampler has no number of them.

    Raises:
        ValueError: if the run's config cannot be read, or has no such number; names the item.
    """
    config = merged_config(run)
    loop = config.get('train_cfg') or {}
    key = 'max_iters' if 'max_iters' in loop else 'max_epochs'
    if not NUMBER.fits(loop.get(key)):
        raise ValueError(f'item {run.name}: {run.config}: train_cfg.{key} must be a number, got {loop.get(key)!r}')
    sampler = (config.get('train_dataloader') or {}).get('sampler') or {}
    return loop[key], 1 if key == 'max_iters' else sampler.get('num_batches')


def estimate_seconds(run: Run, rows: Sequence[Row]) -> float | None:
    """Return the seconds that one run is expected to take if it has the machine to itself.

    The median over the finished runs of the same config of seconds per update, times the updates planned; without
    such a run the plan's ``estimate_minutes``; None if that is not given either. A run that shared the machine with
    others counts with its share, so the sum over a plan holds for any number of runs at a time.

    Raises:
        ValueError: if the config of the run cannot be read, see `run_length`.
    """
    lengths: dict[str, tuple[float, int | None]] = {}

    def length(of: Run) -> tuple[float, int | None]:
        options = json.dumps(of.options, sort_keys=True)
        if options not in lengths:
            lengths[options] = run_length(of)
        return lengths[options]

    loops, batches = length(run)
    known = []
    for row in rows:
        if row['config'] == run.config and all(float(row[column] or 0) > 0 for column in _NUMBERS):
            done = Run(row['name'], row['config'], int(row['seed']), json.loads(row['options']))
            try:
                done_loops, done_batches = length(done)
            except ValueError:  # the config has changed since, and takes its options no longer
                continue
            # Epochs of which one has no number of batches are compared as epochs.
            ratio = loops / done_loops * (batches / done_batches if batches and done_batches else 1)
            updates = float(row['updates']) * ratio
            known.append(float(row['seconds']) / float(row['jobs']) / float(row['updates']) * updates)
    if known:
        return statistics.median(known)
    return None if run.estimate_minutes is None else 60 * run.estimate_minutes
