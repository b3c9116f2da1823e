"""Values beside the numbers that a parameter takes."""

import inspect
from collections.abc import Sequence

import pytest

from mmdml.cli.annotations import wanted_numbers


def takes(
    number: float = 1,
    perhaps: int | None = None,
    several: Sequence[int] = (),
    gaps: int | Sequence[int | None] = 1,
    text: str | int = 1,
    nested: Sequence[Sequence[int]] = (),
    unknown=1,
): ...


@pytest.mark.parametrize(
    ('name', 'value', 'wanted'),
    [
        ('number', 0.5, ''),
        ('number', '0.5', 'a number'),
        ('number', None, 'a number'),
        ('number', [0.5], 'a number'),
        ('number', dict(a=1), 'a number'),
        ('perhaps', None, ''),
        ('perhaps', 'a', 'a number'),
        ('several', [1, 2], ''),
        ('several', [1, None], 'a list of numbers'),
        ('several', [1, 'a'], 'a list of numbers'),
        ('several', None, 'a list of numbers'),
        ('gaps', [1, None], ''),
        ('gaps', 3, ''),
        ('gaps', ['a'], 'a number or a list of numbers'),
        ('text', 'a', ''),
        ('nested', 'a', ''),
        ('unknown', 'a', ''),
    ],
)
def test_what_is_neither_a_number_nor_a_list_of_them_is_refused_where_those_are_due(name, value, wanted):
    assert wanted_numbers(value, inspect.signature(takes).parameters[name]) == wanted
