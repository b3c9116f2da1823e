"""Rows of the CSV of finished runs: those of a cell, one a seed, and what they say."""

import json
import statistics
from collections.abc import Sequence
from typing import Any

from results import Row
from row_checks import refuse_repeated


def select(rows: Sequence[Row], wanted: str | dict[str, Any]) -> list[Row]:
    """Return the rows of one cell: the seeds of one config and options.

    Args:
        rows: the CSV.
        wanted: a config (its rows without options), or a mapping with ``options`` and either ``config``, for rows of
            exactly these options, or ``name``, for rows of an item of a plan that have at least these options.

    Raises:
        ValueError: if a seed has several rows; names them.
    """
    if isinstance(wanted, str):
        wanted = {'config': wanted}
    options = wanted.get('options') or {}
    if 'name' in wanted:
        named = [row for row in rows if row['name'] == wanted['name']]
        selected = [row for row in named if options.items() <= json.loads(row['options']).items()]
    else:
        selected = [row for row in rows if row['config'] == wanted['config'] and json.loads(row['options']) == options]
    refuse_repeated(selected, lambda row: int(row['seed']), str(wanted.get('name') or wanted['config']))
    return selected


def mean_and_std(values: Sequence[float]) -> tuple[float, float | None]:
    """Return mean and sample standard deviation (divisor n - 1; None for one value)."""
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None


def distinct(rows: Sequence[Row], column: str) -> list[str]:
    """Return the values of a column, each once, in the order of the CSV."""
    return list(dict.fromkeys(row[column] for row in rows))


def commits_of(rows: Sequence[Row]) -> list[str]:
    """Return the commits that rows were measured at, each once; a run that was resumed names all of its own."""
    return list(dict.fromkeys(commit for row in rows for commit in row['commit'].split()))


def notes_of(rows: Sequence[Row], notes: dict[str, str]) -> list[str]:
    """Return what is to be said of rows, each sentence once: ``notes`` has it by commit."""
    return list(dict.fromkeys(notes[commit] for commit in commits_of(rows) if commit in notes))
