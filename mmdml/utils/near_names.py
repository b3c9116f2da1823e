"""Known names that are near a wrong one."""

import difflib
from collections.abc import Iterable
from typing import Any


def did_you_mean(name: Any, known: Iterable[str]) -> str:
    """'; did you mean ...?' with the nearest known name, '' if none is near."""
    near = difflib.get_close_matches(str(name), list(known), n=1)
    return f'; did you mean {near[0]!r}?' if near else ''
