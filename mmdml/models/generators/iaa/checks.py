"""The one sentence in which IAA refuses a setting."""

from typing import Any


def check(name: str, value: Any, fits: bool, right: str) -> None:
    """Refuse a value that does not fit.

    Raises:
        ValueError: with name, value and what would be right.
    """
    if not fits:
        raise ValueError(f'{name} must be {right}, got {value!r}')
