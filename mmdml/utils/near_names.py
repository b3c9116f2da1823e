"""Known names that are near a wrong one, and checks of names against those that a function takes."""

import difflib
import inspect
from collections.abc import Callable, Iterable
from typing import Any


def did_you_mean(name: Any, known: Iterable[str], cutoff: float = 0.6) -> str:
    """'; did you mean ...?' with the nearest known name, '' if none is at least ``cutoff`` alike (1: equal)."""
    near = difflib.get_close_matches(str(name), list(known), n=1, cutoff=cutoff)
    return f'; did you mean {near[0]!r}?' if near else ''


def check_known(path: str, settings: Iterable[str], known: Iterable[str]) -> None:
    """Refuse names below a path of a config that would be ignored.

    Raises:
        ValueError: names the path, and what is near to it or known.
    """
    for name in set(settings) - set(known):
        near = did_you_mean(name, known) or f'; known are {", ".join(sorted(known))}'
        raise ValueError(f'{path}.{name}: there is no such setting{near}')


def check_settings(what: str, names: Iterable[str], function: Callable[..., Any]) -> None:
    """Check the names of settings against the arguments of a function that have a default.

    Raises:
        TypeError: if there is none of a name; lists all, and the nearest.
    """
    parameters = inspect.signature(function).parameters.values()
    known = [one.name for one in parameters if one.default is not one.empty]
    for name in names:
        if name not in known:
            raise TypeError(f'{what} has no setting {name!r}; known are {known}{did_you_mean(name, known)}')
