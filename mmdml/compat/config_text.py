"""The text of a config is laid out once a process.

MMEngine lays it out for the log, the file in the work dir, its hooks and every checkpoint: a fifth of a second each,
half of a run of a few epochs.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any

from yapf.yapflib import yapf_api


def lay_out_texts_once() -> None:
    """Make yapf, of which MMEngine asks the layout of a config, keep what it found for a text."""
    if not hasattr(yapf_api.FormatCode, '__wrapped__'):
        yapf_api.FormatCode = _kept(yapf_api.FormatCode)


def _kept(layout: Callable[..., Any]) -> Callable[..., Any]:
    found: dict[str, Any] = {}

    @wraps(layout)
    def kept(*args: Any, **kwargs: Any) -> Any:
        key = repr((args, sorted(kwargs.items())))
        if key not in found:
            found[key] = layout(*args, **kwargs)
        return found[key]

    return kept
