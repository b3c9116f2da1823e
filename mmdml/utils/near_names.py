"""Known names that are near a wrong one."""

import difflib
from collections.abc import Iterable
from typing import Any


def did_you_mean(name: Any, known: Iterable[str], cutoff: float = 0.6) -> str:
    """'; did you mean ...?' with the nearest known name, '' if none is at least ``cutoff`` alike (1: equal)."""
    near = difflib.get_close_matches(str(name), list(known), n=1, cutoff=cutoff)
    return f'; did you mean {near[0]!r}?' if near else ''
