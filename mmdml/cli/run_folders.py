"""Numbered folders of runs."""

import os
import re
from pathlib import Path

from mmdml.utils.names import printable


def base_of_runs(out: str) -> str:
    """Return what the names of runs begin with, of a path as it was given.

    Raises:
        ValueError: its last part is no name: a run would be called ``-1``.
    """
    # A slash at the end, as completion in a shell leaves it, says no more than that it is a folder.
    base = os.path.normpath(out)
    if os.path.basename(base) in ('', '.', '..'):
        raise ValueError(f"--out {printable(out)!r} has no name for runs: '--out models/birds' writes models/birds-1")
    return base


def new_run(base: str) -> Path:
    """Make the folder of the next run: ``base-1``, ``base-2``, ...

    Raises:
        OSError: it cannot be made.
    """
    number = max(_numbers(base), default=0)
    while True:
        number += 1
        folder = Path(f'{base}-{number}')
        folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            folder.mkdir()
        except FileExistsError:  # another command was faster
            continue
        return folder


def newest_run(base: str) -> Path:
    """Return the run with the highest number.

    Raises:
        FileNotFoundError: there is none.
    """
    numbers = _numbers(base)
    if not numbers:
        raise FileNotFoundError(f'there is no run {printable(base)}-1 to go on with; leave --resume out')
    return Path(f'{base}-{max(numbers)}')


def _numbers(base: str) -> list[int]:
    folder, name = os.path.split(base)
    found = os.listdir(folder or '.') if os.path.isdir(folder or '.') else []
    return [int(match[1]) for match in (re.fullmatch(re.escape(name) + r'-(\d+)', each) for each in found) if match]
