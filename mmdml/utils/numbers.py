"""What counts as a number among settings, which may come from a command line, a config or a caller."""

from numbers import Integral, Real
from typing import Any


def is_whole(value: Any) -> bool:
    """Whether a value is an integer of Python or numpy; True and 3.0 are none."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def is_number(value: Any) -> bool:
    """Whether a value is an integer or a float of Python or numpy; True and '3' are none."""
    return isinstance(value, Real) and not isinstance(value, bool)
