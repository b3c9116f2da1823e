"""Checks of the settings that the Runner reads itself, without a registry."""

import inspect
from collections.abc import Iterator, Mapping
from typing import Any

from mmengine.runner import Runner, get_priority
from mmengine.runner.priority import Priority
from mmengine.utils.dl_utils import set_multi_processing

from mmdml.cli.config_paths import walk
from mmdml.utils.near_names import check_known
from mmdml.utils.numbers import is_number


def _arguments(function: Any) -> frozenset[str]:
    return frozenset(inspect.signature(function).parameters) - {'self', 'parameters', 'distributed'}


#: Names that may stand below a key; what else stands there would be ignored, or fail in the middle of a run.
_NAMES = {
    'randomness': _arguments(Runner.set_randomness),
    'env_cfg': frozenset({'cudnn_benchmark', 'mp_cfg', 'dist_cfg', 'resource_limit'}),
    'env_cfg.mp_cfg': _arguments(set_multi_processing),
    'auto_scale_lr': frozenset({'base_batch_size', 'enable'}),
}
#: Whole numbers, and the least value that each may have.
_WHOLE = {
    'train_cfg.max_epochs': 1,
    'train_cfg.max_iters': 1,
    'train_cfg.val_interval': 1,
    'randomness.seed': 0,
    'auto_scale_lr.base_batch_size': 1,
    'optim_wrapper.accumulative_counts': 1,
    **{f'{part}_dataloader.batch_size': 1 for part in ('train', 'val', 'test')},
    **{f'{part}_dataloader.num_workers': 0 for part in ('train', 'val', 'test')},
}
# What stands here is a dict, if anything does.
_DICTS = (
    *('train_dataloader', 'val_dataloader', 'test_dataloader', 'train_cfg', 'val_cfg', 'test_cfg', 'default_hooks'),
    *('optim_wrapper', 'optim_wrapper.optimizer', 'optim_wrapper.clip_grad', 'optim_wrapper.paramwise_cfg'),
    *(f'{part}_dataloader.{key}' for part in ('train', 'val', 'test') for key in ('dataset', 'sampler')),
    *('env_cfg', 'env_cfg.mp_cfg', 'env_cfg.dist_cfg', 'randomness', 'auto_scale_lr', 'visualizer', 'log_processor'),
)
# Numbers of schedules, alone or in a list, that are above 0: with others a schedule divides by 0, or does nothing.
_ABOVE_ZERO = ('step_size', 'T_max', 'milestones', 'periods', 'start_factor')
# Names that are paths in any dataset; of digits alone, a command line reads them as numbers.
_PATHS_OF_DATASETS = ('data_root', 'ann_file')
_LEVELS = ('DEBUG', 'INFO', 'WARNING', 'ERROR', 'CRITICAL')
_REMEDIES = {'train_cfg.val_interval': ' (--no-validate switches evaluation off)'}


def check_kinds(values: Mapping[str, Any]) -> None:
    """Refuse what is no dict where the Runner takes one, and a hook or a schedule without type or of no length.

    Args:
        values: merged config.

    Raises:
        ValueError: naming the path and the value.
    """
    for path in _DICTS:
        entry = _at(values, path)
        if not isinstance(entry, Mapping | None):
            raise ValueError(f'{path}: must be a dict, got {entry!r}')
    for path in ('val_evaluator', 'test_evaluator'):
        if not isinstance(values.get(path), Mapping | list | tuple | None):
            raise ValueError(f'{path}: must be a dict or a list of dicts, got {values[path]!r}')
    if {'type', 'by_epoch'} <= (values.get('train_cfg') or {}).keys():
        raise ValueError('train_cfg: type and by_epoch both choose the loop; leave one of them out')
    for path, part in _parts(values):
        if not isinstance(part, Mapping) or 'type' not in part:
            raise ValueError(f'{path}: must be a dict with a type, got {part!r}')
        if part.get('priority') is not None:  # None leaves it to the hook
            _check_priority(f'{path}.priority', part['priority'])
        for name in _ABOVE_ZERO if path.startswith('param_scheduler') else ():
            numbers = part.get(name)
            numbers = numbers if isinstance(numbers, list | tuple) else [numbers]
            if any(is_number(each) and each <= 0 for each in numbers):
                raise ValueError(f'{path}.{name}: must be above 0, got {part[name]!r}')
        begin = part.get('begin') if path.startswith('param_scheduler') else None
        if is_number(begin) and begin < 0:  # a schedule takes its first step where it begins: never
            raise ValueError(f'{path}.begin: must be >= 0, got {begin!r}')


def check_plain_settings(values: Mapping[str, Any]) -> None:
    """Refuse names and values that the Runner would ignore, or meet after it has begun.

    Args:
        values: merged config.

    Raises:
        ValueError: naming the path, the value, and what is near to it or allowed.
    """
    for path, known in _NAMES.items():
        entry = _at(values, path)
        check_known(path, entry if isinstance(entry, Mapping) else (), known)
    for path, least in _WHOLE.items():
        value = _at(values, path)
        if value is not None and (not isinstance(value, int) or value < least):
            raise ValueError(f'{path}: must be a whole number >= {least}, got {value!r}{_REMEDIES.get(path, "")}')
    for path, value in _paths(values):
        if is_number(value):
            raise ValueError(f'{path}: must be a path, got the number {value!r}; a name of digits is written ./{value}')
    level = values.get('log_level')
    if isinstance(level, str) and level.upper() not in _LEVELS:
        raise ValueError(f'log_level: must be one of {", ".join(_LEVELS)}, got {level!r}')


def _paths(values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    yield from ((key, values.get(key)) for key in ('work_dir', 'load_from'))
    for part in ('train', 'val', 'test'):
        for path, value in walk(values.get(f'{part}_dataloader'), f'{part}_dataloader'):
            if path.rpartition('.')[2] in _PATHS_OF_DATASETS:
                yield path, value


def _check_priority(path: str, priority: Any) -> None:
    try:
        get_priority(priority)
    except (KeyError, TypeError, ValueError) as error:
        names = ', '.join(each.name for each in Priority)
        raise ValueError(f'{path}: must be one of {names}, or a number from 0 to 100, got {priority!r}') from error


def _parts(values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Hooks and schedules, which stand in lists and dicts of the Runner, with their paths."""
    for name, hook in (values.get('default_hooks') or {}).items():
        if hook is not None:
            yield f'default_hooks.{name}', hook
    yield from _in_lists('custom_hooks', values.get('custom_hooks'))
    schedules = values.get('param_scheduler')
    if isinstance(schedules, Mapping):
        # One alone, or those of each of several optimizers.
        several = {f'param_scheduler.{name}': each for name, each in schedules.items()}
        for path, each in {'param_scheduler': schedules}.items() if 'type' in schedules else several.items():
            yield from _in_lists(path, each) if isinstance(each, list | tuple) else [(path, each)]
    else:
        yield from _in_lists('param_scheduler', schedules)


def _in_lists(path: str, parts: Any) -> Iterator[tuple[str, Any]]:
    if not isinstance(parts, list | tuple | None):
        raise ValueError(f'{path}: must be a list of dicts, got {parts!r}')
    yield from ((f'{path}.{number}', part) for number, part in enumerate(parts or ()))


def _at(values: Any, path: str) -> Any:
    for key in path.split('.'):
        values = values.get(key) if isinstance(values, Mapping) else None
    return values
