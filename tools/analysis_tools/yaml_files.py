"""YAML files of this folder's scripts: read them, and check what they hold before anything depends on it."""

import re
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
        ValueError: if it is no text or no YAML, a mapping has a key twice, or a number is written in one of the ways
            that YAML 1.1 alone knows; names the file and, but for what is nested too deep, the line.
        FileNotFoundError: if it is not there.
    """
    text = '\n'.join(read_lines(str(path)))
    try:
        return _Strict(text).get_single_data()
    except RecursionError:
        raise ValueError(f'{path} is no YAML that can be read: brackets are nested too deep') from None
    except yaml.YAMLError as error:
        words = str(error).replace('in "<unicode string>", ', '')
        raise ValueError(f'{path} is no YAML: {" ".join(words.split())}') from None


_NUMBER_TAGS = ('tag:yaml.org,2002:int', 'tag:yaml.org,2002:float')
_DECIMAL = re.compile(
    r'[+-]?(0|[1-9][0-9]*|([0-9]+\.[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?|\.(inf|Inf|INF)|\.(nan|NaN|NAN))'
)


class _Strict(yaml.SafeLoader):
    """Refuses what would become another value without a word.

    That are keys that a mapping has twice, and 010, 1_1, 0x1f and 1:30, which YAML 1.1 reads as 8, 11, 31 and 90.
    """

    def compose_scalar_node(self, anchor: Any) -> yaml.ScalarNode:
        node = super().compose_scalar_node(anchor)
        if node.tag in _NUMBER_TAGS and not _DECIMAL.fullmatch(node.value):
            problem = f'{node.value} is no plain decimal number; write it as one, or a text in quotes'
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except ValueError as error:
            raise yaml.MarkedYAMLError(problem=f'{node.value}: {error}', problem_mark=node.start_mark) from None

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
