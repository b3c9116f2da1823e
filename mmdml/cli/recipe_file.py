"""A config whose values stand once, at the top of the file, and can be set there."""

import ast
import pprint
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mmdml.utils.near_names import did_you_mean


def with_values(recipe: str | Path, values: Mapping[str, Any]) -> str:
    """Return the text of a config with other values for the names that it assigns once.

    Args:
        recipe: path of a config whose settings are plain assignments at the top level, each before it is used.
        values: by name; plain values.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file does not assign a name, or is no Python.
    """
    text, assigned = _read(recipe)
    for name in values:
        if name not in assigned:
            near = did_you_mean(name, assigned)
            raise ValueError(f'{recipe} assigns no {name!r} at its top level, so that it cannot be set{near}')
    return _replaced(text, assigned, values)


def same_but_values(first: str | Path, second: str | Path, names: Iterable[str]) -> bool:
    """Whether two configs are the same text but for the values of names that they assign once.

    Args:
        first: path of a config.
        second: as well.
        names: whose values may differ.

    Raises:
        FileNotFoundError, ValueError: as :func:`with_values`.
    """
    without = dict.fromkeys(names)
    texts = [_replaced(*_read(each), without) for each in (first, second)]
    return texts[0] == texts[1]


def _read(recipe: str | Path) -> tuple[str, dict[str, ast.Assign]]:
    """Return the text of a config, and the first assignment of each name at its top level."""
    text = Path(recipe).read_text(encoding='utf-8')
    try:
        statements = ast.parse(text).body
    except SyntaxError as error:
        raise ValueError(f'{recipe}, line {error.lineno}: {error.msg}') from error
    return text, {
        statement.targets[0].id: statement
        for statement in reversed(statements)
        if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name)
    }


def _replaced(text: str, assigned: Mapping[str, ast.Assign], values: Mapping[str, Any]) -> str:
    lines = text.splitlines(keepends=True)
    # From the end, so that the numbers of earlier lines stay.
    for name, statement in sorted(assigned.items(), key=lambda each: -each[1].lineno):
        if name in values:
            value = pprint.pformat(values[name], width=110, sort_dicts=False)
            lines[statement.lineno - 1 : statement.end_lineno] = [f'{name} = {value}\n']
    return ''.join(lines)
