"""A config whose values stand once, at the top of the file, and can be set there."""

import ast
import pprint
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import mmdml
from mmdml.utils.near_names import did_you_mean

#: Recipes by name.
RECIPES = Path(mmdml.__file__).parent / '.mim/configs/recommended'
#: Name of a recipe with its values set.
RECIPE = 'recipe.py'
_OF_MMDML = f'mmdml::{RECIPES.name}/'


def with_values(recipe: str | Path, values: Mapping[str, Any]) -> dict[str, str]:
    """Return the text of a config with other values for the names that it assigns once.

    A recipe that inherits another one, of its folder or of the package, comes with a copy of that: a value is set in
    each of them that assigns it, as what is computed from it may stand in either.

    Args:
        recipe: path of a config whose settings are plain assignments at the top level, each before it is used.
        values: by name; plain values.

    Returns:
        Texts by file name: ``'recipe.py'``, and those that it inherits, all for one folder.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: no file assigns a name, or one is no Python.
    """
    texts, assigned = _texts(recipe, values)
    for name in values:
        if name not in assigned:
            near = did_you_mean(name, assigned)
            raise ValueError(f'{recipe} assigns no {name!r} at its top level, so that it cannot be set{near}')
    return texts


def same_but_values(first: str | Path, second: str | Path, names: Iterator[str]) -> bool:
    """Whether two recipes are the same but for the values of some names.

    Args:
        first: path of a recipe.
        second: path of the other one.
        names: whose values do not matter.

    Raises:
        FileNotFoundError, ValueError: as :func:`with_values`.
    """
    without = dict.fromkeys(names)
    return _texts(first, without) == _texts(second, without)


def _texts(recipe: str | Path, values: Mapping[str, Any]) -> tuple[dict[str, str], set[str]]:
    """Return the texts of a recipe with values set, by file name, and the names that are assigned in them."""
    texts, known = {}, set()
    for name, path in _files(Path(recipe), RECIPE):
        text, assigned = _read(path)
        inherited = [f'./{base.name}' if base else given for given, base in _bases(path, assigned)]
        texts[name] = _replaced(text, assigned, {**values, **({'_base_': inherited} if inherited else {})})
        known |= assigned.keys()
    return texts, known


def _files(recipe: Path, name: str) -> Iterator[tuple[str, Path]]:
    """Yield a recipe and those that it inherits, each with its name in the folder of a run."""
    yield name, recipe
    for _, base in _bases(recipe, _read(recipe)[1]):
        if base:
            yield from _files(base, base.name)


def _bases(recipe: Path, assigned: Mapping[str, ast.Assign]) -> list[tuple[str, Path | None]]:
    """Return what a config inherits, as it is written and, of a recipe, with its path."""
    try:
        given = ast.literal_eval(assigned['_base_'].value) if '_base_' in assigned else []
    except ValueError as error:
        raise ValueError(f'{recipe}, line {assigned["_base_"].lineno}: _base_ must be a list of paths') from error
    paths = [given] if isinstance(given, str) else given
    return [(each, _recipe_at(each, recipe.parent)) for each in paths]


def _recipe_at(base: str, folder: Path) -> Path | None:
    if base.startswith(_OF_MMDML):
        return RECIPES / base.removeprefix(_OF_MMDML)
    path = Path(base)
    return folder / path.name if '::' not in base and path.parent == Path() else None


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
