"""How configurable parts print themselves."""

import inspect

from torch import Tensor


def constructor_arguments(part: object) -> str:
    """``'margin=0.2, reduction='paper''``: the arguments of a part's constructor that it keeps under their names.

    Tensors of one number are written as that number, larger ones as their shape.
    """
    names = [name for name in inspect.signature(type(part)).parameters if hasattr(part, name)]
    return ', '.join(f'{name}={_text(getattr(part, name))}' for name in names)


def _text(value: object) -> str:
    if not isinstance(value, Tensor):
        return repr(value)
    return f'{value.item():.4g}' if value.numel() == 1 else f'tensor{tuple(value.shape)}'
