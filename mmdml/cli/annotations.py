"""What the annotation of a parameter says of the numbers that it takes."""

import inspect
import types
import typing
from collections.abc import Iterable, Sequence
from typing import Any

import torch

_PLAIN_NUMBERS = {int, float, bool, type(None), torch.Tensor}


def wanted_numbers(value: Any, parameter: inspect.Parameter) -> str:
    """Return what a parameter takes where that is numbers, or lists of them, and the value is neither; '' if it fits.

    Whether a number is the right one is left to the part.
    """
    kinds = {*_alternatives(parameter.annotation), *([type(None)] if parameter.default is None else [])}
    lists = {kind for kind in kinds if _is_list_of_numbers(kind)}
    if not kinds <= _PLAIN_NUMBERS | lists:
        return ''
    if isinstance(value, list | tuple):
        items = {item for kind in lists for each in typing.get_args(kind) for item in _alternatives(each)}
        fits = bool(lists) and all(_fits(each, items) for each in value)
    else:
        fits = _fits(value, kinds)
    names = [*(['a number'] if kinds & {int, float, bool} else []), *(['a list of numbers'] if lists else [])]
    return '' if fits else ' or '.join(names)


def _fits(value: Any, kinds: set[Any]) -> bool:
    return type(None) in kinds if value is None else not isinstance(value, str | dict)


def _alternatives(annotation: Any) -> tuple[Any, ...]:
    return typing.get_args(annotation) if _is_union(annotation) else (annotation,)


def _is_list_of_numbers(annotation: Any) -> bool:
    items = [each for each in typing.get_args(annotation) if each is not ...]
    # ``type[int]`` has such arguments, too.
    is_list = typing.get_origin(annotation) in (list, tuple, Sequence, Iterable)
    return is_list and bool(items) and all(kind in _PLAIN_NUMBERS for each in items for kind in _alternatives(each))


def _is_union(annotation: Any) -> bool:
    return typing.get_origin(annotation) in (typing.Union, types.UnionType)
