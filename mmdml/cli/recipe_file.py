"""A config whose values stand once, at the top of the file, and can be set there."""

import ast
import pprint
import tempfile
from collections.abc import Iterator, Mapping
from itertools import accumulate, chain, count
from pathlib import Path
from typing import Any

from mmengine.config import Config

import mmdml
from mmdml.cli.launch import read_config
from mmdml.utils.names import printable
from mmdml.utils.near_names import did_you_mean
from mmdml.utils.tables import read_lines

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
        Texts by file name: ``'recipe.py'``, and those that it inherits, all for one folder. One whose name another
        one has gets a number.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: no file assigns a name, or one is no Python, is not in UTF-8, or inherits from another folder.
    """
    texts, assigned = _texts(recipe, values)
    for name in values:
        if name not in assigned:
            near = did_you_mean(name, assigned)
            raise ValueError(f'{recipe} assigns no {name!r} at its top level, so that it cannot be set{near}')
    return texts


def require_effect(recipe: str | Path, values: Mapping[str, Any], settings: Mapping[str, str]) -> Config:
    """Check that values which are set in a recipe are those of the config that it makes.

    A recipe may assign a name twice, or the setting that is computed from it anew.

    Args:
        recipe: see :func:`with_values`.
        values: see :func:`with_values`.
        settings: dotted path of the setting that a value must reach, for some of the names.

    Returns:
        That config.

    Raises:
        ValueError: a value has no effect; names recipe, value and what stands in its place.
        FileNotFoundError: see :func:`with_values`.
    """
    with tempfile.TemporaryDirectory() as folder:
        for name, text in with_values(recipe, values).items():
            Path(folder, name).write_text(text, encoding='utf-8')
        cfg = read_config(str(Path(folder, RECIPE)), {})
    found = cfg.to_dict()
    for name, value in values.items():
        for path in (name, *([settings[name]] if name in settings else [])):
            reached = found
            for key in path.split('.'):
                reached = reached.get(key) if isinstance(reached, dict) else None
            if reached != value:
                raise ValueError(
                    f'{printable(recipe)}: {name} = {value!r} has no effect, as {path} is {reached!r} all the same; '
                    f'assign {name} once, and compute from it what depends on it'
                )
    return cfg


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
    names = _names(Path(recipe))
    for path, name in names.items():
        text, assigned = _read(path)
        inherited = [f'./{names[base]}' if base else given for given, base in _bases(path, assigned)]
        texts[name] = _replaced(text, assigned, {**values, **({'_base_': inherited} if inherited else {})})
        known |= assigned.keys()
    return texts, known


def _names(recipe: Path) -> dict[Path, str]:
    """Return the names in the folder of a run of a recipe and those that it inherits; no two have one."""
    names = {recipe: RECIPE}
    left = [recipe]
    for path in left:
        for base in [base for _, base in _bases(path, _read(path)[1]) if base]:
            if base not in names:
                numbered = (f'{base.stem}_{number}.py' for number in count(1))
                names[base] = next(each for each in chain([base.name], numbered) if each not in names.values())
                left.append(base)
    return names


def _bases(recipe: Path, assigned: Mapping[str, ast.Assign]) -> list[tuple[str, Path | None]]:
    """Return what a config inherits, as it is written and, of a recipe, with its path."""
    if '_base_' not in assigned:
        return []
    where = f'{printable(recipe)}, line {assigned["_base_"].lineno}'
    try:
        given = ast.literal_eval(assigned['_base_'].value)
    except ValueError as error:
        raise ValueError(f'{where}: _base_ must be a list of paths') from error
    paths = [given] if isinstance(given, str) else given
    if not isinstance(paths, list | tuple) or not all(isinstance(each, str) for each in paths):
        raise ValueError(f'{where}: _base_ must be a list of paths, got {given!r}')
    return [(each, _recipe_at(each, recipe.parent, where)) for each in paths]


def _recipe_at(base: str, folder: Path, where: str) -> Path | None:
    """Return the path of what a run gets a copy of; None for what it inherits where it is."""
    if base.startswith(_OF_MMDML):
        return RECIPES / base.removeprefix(_OF_MMDML)
    path = Path(base)
    if '::' in base or path.is_absolute():
        return None
    if path.parent != Path():
        raise ValueError(
            f'{where}: _base_ {base!r} lies in another folder than the recipe, which a run would not find; put a copy '
            'beside the recipe, or write the whole path'
        )
    return folder / path.name


def _read(recipe: Path) -> tuple[str, dict[str, ast.Assign]]:
    """Return the text of a config, and the first assignment of each name at its top level."""
    text = '\n'.join([*read_lines(str(recipe)), ''])
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
    """Return a text with the values of some assignments replaced, and all around them as it was."""
    # The parser counts lines by line feeds alone, and places in them in bytes.
    content = text.encode()
    starts = list(accumulate((len(line) + 1 for line in content.split(b'\n')), initial=0))
    replaced = {name: each.value for name, each in assigned.items() if name in values}
    # From the end, so that the places of earlier ones stay.
    for name, old in sorted(replaced.items(), key=lambda each: (each[1].lineno, each[1].col_offset), reverse=True):
        start, end = starts[old.lineno - 1] + old.col_offset, starts[old.end_lineno - 1] + old.end_col_offset
        value = pprint.pformat(values[name], width=110, sort_dicts=False)
        content = content[:start] + value.encode() + content[end:]
    return content.decode()
