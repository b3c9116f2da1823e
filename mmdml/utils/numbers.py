"""What counts as a number among settings, which may come from a command line, a config or a caller."""

from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any


def is_whole(value: Any) -> bool:
    """Whether a value is an integer of Python or numpy; True and 3.0 are none."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def is_number(value: Any) -> bool:
    """Whether a value is an integer or a float of Python or numpy; True and '3' are none."""
    return isinstance(value, Real) and not isinstance(value, bool)


def are_numbers(values: Any, least: int = 0) -> bool:
    """Whether a value is a list or tuple of at least so many numbers, none NaN; a single number and '12' are none."""
    is_list = isinstance(values, Sequence) and len(values) >= least
    return is_list and all(is_number(value) and value == value for value in values)


def check_counts(least: int = 1, /, **values: Any) -> None:
    """Refuse settings that count something and are no integer, or below the least that there may be.

    Raises:
        ValueError: with the name and the value.
    """
    for name, value in values.items():
        if not is_whole(value) or value < least:
            raise ValueError(f'{name} must be an integer of at least {least}, got {value!r}')
