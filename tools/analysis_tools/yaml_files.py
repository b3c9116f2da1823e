"""YAML files of this folder's scripts: read them, and check what they hold before anything depends on it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from mmdml.utils.tables import read_lines


class Kind(NamedTuple):
    """What a value in a YAML file may be: in words, and as a test."""

    words: str
    fits: Callable[[Any], bool]


TEXT = Kind('a text', lambda value: isinstance(value, str) and value != '')
FLAG = Kind('true or false', lambda value: isinstance(value, bool))
NUMBER = Kind('a number', lambda value: isinstance(value, (int, float)) and not isinstance(value, bool))
LIST = Kind('a list of at least one entry', lambda value: isinstance(value, list) and value != [])
TEXTS = Kind('a list of texts', lambda value: LIST.fits(value) and all(map(TEXT.fits, value)))
MAPPING = Kind(
    'a mapping of names to values', lambda value: isinstance(value, dict) and all(isinstance(key, str) for key in value)
)


def read_yaml(path: str | Path) -> Any:
    """Content of a YAML file.

    Raises:
        ValueError: if it is no text or no YAML, or a mapping has a key twice; names the file.
        FileNotFoundError: if it is not there.
    """
    text = '\n'.join(read_lines(str(path)))
    try:
        return _UniqueKeys(text).get_single_data()
    except yaml.YAMLError as error:
        words = str(error).replace('in "<unicode string>", ', '')
        raise ValueError(f'{path} is no YAML: {" ".join(words.split())}') from None


class _UniqueKeys(yaml.SafeLoader):
    """Refuses a key that a mapping has twice: one of the values would go by the board without a word."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    problem = f'the key {key.value!r} stands twice'
                    raise yaml.MarkedYAMLError(problem=problem, problem_mark=key.start_mark)
                seen.add(key.value)
        return node


def check_fields(value: Any, known: dict[str, Kind], required: tuple[str, ...], where: str) -> None:
    """Check that a mapping has what it must have, nothing unknown, and values of the right kind.

    Args:
        value: from a YAML file. A key that has no value counts as absent.
        known: kind of each key.
        required: keys that must be there.
        where: file and place, for the message.

    Raises:
        ValueError: names place, key, value and what would be right.
    """
    if not isinstance(value, dict):
        raise ValueError(f'{where}: must be a mapping with the keys {sorted(known)}, got {value!r}')
    unknown = sorted(set(map(str, value)) - set(known))
    missing = [key for key in required if value.get(key) is None]
    if unknown or missing:
        raise ValueError(f'{where}: unknown keys {unknown}, missing keys {missing}; known: {sorted(known)}')
    for key, kind in known.items():
        if value.get(key) is not None and not kind.fits(value[key]):
            raise ValueError(f'{where}: {key} must be {kind.words}, got {value[key]!r}')
