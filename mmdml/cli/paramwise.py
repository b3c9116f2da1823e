"""Checks of the settings that differ by parameter, which MMEngine's constructor of optimizers looks up by name."""

from collections.abc import Iterable, Mapping
from typing import Any

from mmdml.utils.near_names import check_known
from mmdml.utils.numbers import is_number

_PATH = 'optim_wrapper.paramwise_cfg'
_NUMBERS = frozenset(
    {'bias_lr_mult', 'bias_decay_mult', 'norm_decay_mult', 'dwconv_decay_mult', 'flat_decay_mult', 'dcn_offset_lr_mult'}
)
_KNOWN = _NUMBERS | {'bypass_duplicate', 'custom_keys'}
_OF_A_KEY = ('lr_mult', 'decay_mult')


def check_paramwise(optim_wrapper: Mapping[str, Any], optimizer_settings: Iterable[str] | None) -> None:
    """Refuse names that would be ignored, and factors that are no numbers.

    Args:
        optim_wrapper: its settings; of those with a constructor of their own nothing is known.
        optimizer_settings: arguments of the optimizer, which a custom key may set, too; None if it takes any.

    Raises:
        ValueError: naming the path, the value, and what is near to it or allowed.
    """
    settings = optim_wrapper.get('paramwise_cfg') or {}
    if optim_wrapper.get('constructor', 'DefaultOptimWrapperConstructor') != 'DefaultOptimWrapperConstructor':
        return
    check_known(_PATH, settings, _KNOWN)
    _check_numbers(_PATH, settings, _NUMBERS)
    path = f'{_PATH}.custom_keys'
    keys = settings.get('custom_keys') or {}
    if not isinstance(keys, Mapping):
        raise ValueError(f'{path}: must be a dict, got {keys!r}')
    for key, values in keys.items():
        if not isinstance(values, Mapping):
            raise ValueError(f'{path}.{key}: must be a dict such as dict(lr_mult=10), got {values!r}')
        if optimizer_settings is not None:
            check_known(f'{path}.{key}', values, {*_OF_A_KEY, *optimizer_settings})
        _check_numbers(f'{path}.{key}', values, _OF_A_KEY)


def _check_numbers(path: str, settings: Mapping[str, Any], names: Iterable[str]) -> None:
    for name in names:
        if settings.get(name) is not None and not is_number(settings[name]):
            raise ValueError(f'{path}.{name}: must be a number, got {settings[name]!r}')
