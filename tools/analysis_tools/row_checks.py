"""Checks of rows of the CSV and of names, before a table, a verdict or a comparison is made of them."""

import difflib
import json
from collections.abc import Callable, Collection, Hashable, Iterable, Sequence

from results import Row


def refuse_repeated(rows: Iterable[Row], key: Callable[[Row], Hashable], where: str) -> None:
    """Check that no two rows have one key.

    Args:
        rows: of the CSV.
        key: function of a row, such as its seed.
        where: file and place, for the message.

    Raises:
        ValueError: names the rows, with the options in which they differ.
    """
    groups: dict[Hashable, list[Row]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    for same in groups.values():
        if len(same) > 1:
            raise ValueError(
                f'{where}: several runs of seed {same[0]["seed"]} where one is compared: {_described(same)}. Give '
                'items of a plan that differ in their options names of their own, or delete the line that is wrong'
            )


def _described(rows: Sequence[Row]) -> str:
    """Write rows by run and name, with the options in which they differ."""
    facts = [{'config': row['config'], **json.loads(row['options'])} for row in rows]
    described = []
    for row, own in zip(rows, facts, strict=True):
        unlike = [f'{key}={own[key]}' for key in own if any(other.get(key) != own[key] for other in facts)]
        described.append(f'{row["run"]} ({", ".join([row["name"], *unlike])})')
    return ' and '.join(described)


def refuse_empty(rows: Iterable[Row], columns: Iterable[str], where: str) -> None:
    """Check that rows have values in columns.

    Raises:
        ValueError: names place, run and column.
    """
    for row in rows:
        if empty := [column for column in columns if not row.get(column)]:
            raise ValueError(
                f'{where}: run {row["run"]} ({row["name"]}, seed {row["seed"]}) has no {" and ".join(empty)}'
            )


def refuse_unknown(value: str, known: Collection[str], where: str) -> None:
    """Check that a name is that of a run, or of a set.

    Raises:
        ValueError: names place, value and the known names that are most like it.
    """
    if value not in known:
        nearest = difflib.get_close_matches(value, sorted(known), cutoff=0)
        raise ValueError(f'{where}: none is called {value!r}; nearest to it: {nearest}')
