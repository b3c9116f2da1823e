"""Retrieval evaluation: pure functions, protocols, and thin metrics over them."""

from importlib import import_module
from typing import Any

from .functional import *  # noqa: F401, F403

# What needs MMEngine is imported at first use: the functions work without.
_HOMES = {
    **dict.fromkeys(('ResultsMatrix', 'RetrievalMetric'), '.metrics'),
    **dict.fromkeys(
        (
            'LeaveOneOut',
            'PerPart',
            'Protocol',
            'QueryGallery',
            'SingleGalleryShot',
            'Split',
            'build_protocol',
            'by_roles',
        ),
        '.protocols',
    ),
    'RetrievalScoring': '.scoring',
    'RowFacts': 'mmdml.structures.row_facts',
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(import_module(_HOMES[name], __name__), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
