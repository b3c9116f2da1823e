"""Checks of settings, and of tensor values without letting the host wait for an accelerator."""

from collections.abc import Callable

import torch
from torch import Tensor

from mmdml.utils.numbers import is_number


def check_numbers(**values: object) -> None:
    """Refuse settings that are no numbers: a text from a config, or NaN, which passes every comparison of a range.

    Raises:
        ValueError: with the name and the value.
    """
    for name, value in values.items():
        if not is_number(value) or value != value:
            raise ValueError(f'{name} must be a number, got {value!r}')


def check_positive(**values: float) -> None:
    """Refuse what is no number above 0.

    Raises:
        ValueError: with the name and the value.
    """
    check_numbers(**values)
    for name, value in values.items():
        if not value > 0:
            raise ValueError(f'{name} must be positive, got {value}')


def require(ok: Tensor, text: str, culprit: Callable[[], object] | None = None) -> None:
    """Refuse a batch whose values are out of range.

    On a CUDA device the condition is checked there, when the device reaches it: the host does not wait, and the text is
    that of the device-side assertion. Elsewhere it is an ordinary error.

    Args:
        ok: ``()`` bool, the condition.
        text: what must hold, with names and limits.
        culprit: returns the offending value for the message; called on failure only.

    Raises:
        ValueError: if the condition is false.
    """
    if ok.is_cuda:
        torch._assert_async(ok, text)
    elif not ok:
        raise ValueError(text if culprit is None else f'{text}, got {culprit()}')


def check_targets(targets: Tensor, shape: tuple[int, int]) -> None:
    """Refuse targets of another shape, or outside [0, 1].

    Raises:
        ValueError: with both shapes, or the value (on an accelerator: see :func:`require`).
    """
    if targets.shape != shape:
        raise ValueError(f'targets must be (A, X) = {shape}, got {tuple(targets.shape)}')
    inside = (targets >= 0) & (targets <= 1)
    require(inside.all(), 'targets must lie in [0, 1]', lambda: targets[~inside][0].item())


def check_unit(rows: Tensor) -> None:
    """Refuse rows ``(B, D)`` that nobody normalized; what is not finite is for a loss to show.

    Raises:
        ValueError: with a length (on an accelerator: see :func:`require`).
    """
    length = rows.detach().float().norm(dim=-1)
    # Half precision is off by less.
    other = ((length - 1).abs() > 0.02) & (length > 0) & length.isfinite()
    text = 'PairBatch takes rows of length 1, which torch.nn.functional.normalize(embeddings, dim=1) returns'
    require(~other.any(), text, lambda: f'a row of length {length[other][0].item():.3g}')
