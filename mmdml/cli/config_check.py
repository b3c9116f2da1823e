"""Checks of a whole config before any work: keys, types and plain values at every depth, each named by its path."""

import inspect
import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import mmengine.registry as roots
import torch
from mmengine.registry import Registry
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from mmdml import registry as own
from mmdml.cli.annotations import wanted_numbers
from mmdml.cli.config_paths import walk
from mmdml.cli.paramwise import check_paramwise
from mmdml.cli.plain_settings import check_kinds, check_plain_settings
from mmdml.utils.near_names import did_you_mean

# Keys that mean something to the Runner or to the tools; a config may hold variables of its own besides.
_KNOWN_KEYS = frozenset(inspect.signature(Runner.__init__).parameters) - {'self', 'cfg'} | {
    'find_unused_parameters',
    'sync_bn',
    'model_wrapper_cfg',
    'compile',
    'activation_checkpointing',
    'efficient_conv_bn_eval',
    'custom_imports',
    'gpu_ids',
    'runner_type',
}
# Scope of the parts of this package.
_OWN_SCOPE = 'mmdml'
_LOADER = (own.DATASETS, own.DATA_SAMPLERS, own.TRANSFORMS)
#: Registries in which the types below a key of the config are looked up first.
_REGISTRIES: dict[str, tuple[Registry, ...]] = {
    'model': (own.MODELS, own.TASK_UTILS),
    'train_dataloader': _LOADER,
    'val_dataloader': _LOADER,
    'test_dataloader': _LOADER,
    'optim_wrapper': (own.OPTIM_WRAPPERS, own.OPTIMIZERS),
    'param_scheduler': (own.PARAM_SCHEDULERS,),
    'default_hooks': (own.HOOKS,),
    'custom_hooks': (own.HOOKS,),
    'train_cfg': (own.LOOPS,),
    'val_cfg': (own.LOOPS,),
    'test_cfg': (own.LOOPS,),
    'val_evaluator': (own.METRICS, own.PROTOCOLS, roots.EVALUATOR),
    'test_evaluator': (own.METRICS, own.PROTOCOLS, roots.EVALUATOR),
    'log_processor': (own.LOG_PROCESSORS,),
    'visualizer': (own.VISUALIZERS, own.VISBACKENDS),
}
# Dicts with a type that are read by other code than a registry's builder.
_NOT_BUILT = ('collate_fn', 'worker_init_fn', 'batch_sampler')
# What the Runner takes out of a part's dict before it is built, or allows in one without a type.
_TAKEN_OUT = {
    'optim_wrapper': {'type', 'constructor', 'paramwise_cfg', 'optimizer'},
    'param_scheduler': {'convert_to_iter_based'},
    'default_hooks': {'priority'},
    'custom_hooks': {'priority'},
    'train_cfg': {'by_epoch'},
}
# What the owner of a dict of parts takes out of each of them, by the key of the dict.
_TAKEN_BY_OWNER = {'regularizers': {'weight'}}
_DEFAULT_TYPES = {
    **dict(train_cfg='EpochBasedTrainLoop', val_cfg='ValLoop', test_cfg='TestLoop', log_processor='LogProcessor'),
    'optim_wrapper.clip_grad': 'norm',
}
# What ``clip_grad.type`` of an OptimWrapper chooses.
_CLIPPING = {'norm': torch.nn.utils.clip_grad_norm_, 'value': torch.nn.utils.clip_grad_value_}
_LOADER_KEYS = {*inspect.signature(DataLoader.__init__).parameters, 'num_batch_per_epoch'} - {'self'}
#: Hooks without which a run goes wrong, and what each of them does.
_NEEDED_HOOKS = {
    'step_context': 'which gives the head the progress of the run',
    'run_state': 'that keeps and checks what a run needs to be resumed',
    'sampler_seed': 'without which every epoch has the batches of the first one',
}
# Entries of ``default_hooks`` that MMEngine has of itself, and the one that the tools add.
_OWN_HOOKS = ('runtime_info', 'timer', 'sampler_seed', 'logger', 'param_scheduler', 'checkpoint', 'console')


def check_keys(cfg: Any, options: Mapping[str, Any]) -> None:
    """Refuse top-level keys that would be silently ignored, before the options are merged.

    A command-line option must name a key of the Runner. A key of the config that nearly spells a Runner key is taken
    for a typing error.

    Raises:
        ValueError: names the key and the nearest known one, or the places deeper in the config where it occurs.
    """
    for key in {option.partition('.')[0] for option in options} - _KNOWN_KEYS:
        places = _places(cfg, key)
        if key in cfg:
            raise ValueError(
                f"--cfg-options: '{key}' is a variable of the config file, and its value is already where it is used. "
                f'Set it there, e.g. {places or "train_dataloader.batch_size"} instead of {key}; '
                'tools/misc/print_config.py shows the places'
            )
        hint = f'; did you mean {places}?' if places else did_you_mean(key, _KNOWN_KEYS)
        raise ValueError(f"--cfg-options: unknown config key '{key}'{hint}")
    hooks = {*_OWN_HOOKS, *(cfg.default_hooks if isinstance(cfg.get('default_hooks'), dict) else ())}
    for path, value in options.items():
        name = path.removeprefix('default_hooks.')
        if value is None and name != path and '.' not in name and name not in hooks:
            raise ValueError(f'--cfg-options: {path}: there is no such hook{did_you_mean(name, hooks)}')
    if 'launcher' in options:
        raise ValueError('--cfg-options: launcher is set by its flag: --launcher pytorch')
    for key in set(cfg) - _KNOWN_KEYS:
        near = did_you_mean(key, _KNOWN_KEYS, cutoff=0.87)
        if near:
            raise ValueError(f"unknown config key '{key}'{near}")


def check_config(cfg: Any) -> None:
    """Check keys, types and plain values below the top level of a merged config.

    Raises:
        ValueError: names the path of the first key, type or value that is wrong, and what is near to it.
    """
    values = _plain(cfg)
    check_kinds(values)
    for path, entry, section in _entries(values):
        if 'type' in entry:
            _check_part(path, entry, section)
        elif path in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
            _check_names(path, entry, {*_LOADER_KEYS, '_scope_'}, 'a data loader')
    check_plain_settings(values)
    _check_paramwise(values.get('optim_wrapper') or {}, values.get('default_scope') or _OWN_SCOPE)
    for key, role in _NEEDED_HOOKS.items():
        if (values.get('default_hooks') or {}).get(key, '') is None:
            raise ValueError(f'default_hooks.{key}: None switches off the hook {role}; leave the entry out')


def _check_paramwise(optim_wrapper: Mapping[str, Any], scope: str) -> None:
    optimizer = optim_wrapper.get('optimizer') or {}
    kind = optimizer.get('type')
    if isinstance(kind, str):
        kind = _find('optim_wrapper.optimizer', kind, 'optim_wrapper', optimizer.get('_scope_', scope))
    check_paramwise(optim_wrapper, None if kind is None else _parameters(kind))


def _plain(cfg: Any) -> dict[str, Any]:
    return cfg.to_dict() if hasattr(cfg, 'to_dict') else cfg


def _entries(values: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any], str]]:
    """All dicts below the keys of the Runner, with their paths and the key that they are below."""
    scopes: dict[str, str] = {}
    for section in _REGISTRIES.keys() & values.keys():
        for path, entry in walk(values[section], section):
            # Parts are built in the scope of what they are a part of, unless they have one of their own.
            around = scopes.get(path.rpartition('.')[0], values.get('default_scope') or _OWN_SCOPE)
            scopes[path] = entry.get('_scope_', around) if isinstance(entry, dict) else around
            names = path.split('.')
            built = not any(name in _NOT_BUILT or name.endswith('_cfg') for name in names[1:])
            if isinstance(entry, dict) and built:
                # Without a type the Runner chooses.
                if path == 'train_cfg' and not entry.get('by_epoch', True):
                    entry = {'type': 'IterBasedTrainLoop', **entry}
                default = {'type': _DEFAULT_TYPES[path]} if path in _DEFAULT_TYPES else {}
                yield path, {**default, **entry, '_scope_': scopes[path]}, section


def _check_part(path: str, entry: dict[str, Any], section: str) -> None:
    kind = entry['type']
    part = _find(path, kind, section, entry['_scope_']) if isinstance(kind, str) else kind
    accepted = _parameters(part)
    if accepted is None:
        return
    top = path.count('.') == 0 or (path.count('.') == 1 and path.rpartition('.')[2].isdigit())
    more = _TAKEN_OUT.get(section, set()) if top or section in ('default_hooks', 'custom_hooks') else set()
    more = more | _TAKEN_BY_OWNER.get(path.rpartition('.')[0].rpartition('.')[2], set())
    name = kind if isinstance(kind, str) else kind.__name__
    _check_names(path, entry, {*accepted, *more, 'type', '_scope_', 'init_cfg'}, name)
    for key, value in entry.items():
        wanted = wanted_numbers(value, accepted[key]) if key in accepted else ''
        if wanted:
            raise ValueError(f'{path}.{key}: {name} takes {wanted}, got {value!r}')


def _check_names(path: str, entry: dict[str, Any], known: Iterable[str], name: str) -> None:
    for key in entry.keys() - set(known):
        near = did_you_mean(key, known) or f'; it takes {", ".join(sorted(set(known) - {"type", "_scope_", "self"}))}'
        raise ValueError(f'{path}.{key}: {name} takes no {key!r}{near}')


def _find(path: str, kind: str, section: str, scope: str) -> Any:
    if path == 'optim_wrapper.clip_grad':
        if kind not in _CLIPPING:
            raise ValueError(f'{path}.type: must be one of {", ".join(_CLIPPING)}, got {kind!r}')
        return _CLIPPING[kind]
    registries = _REGISTRIES[section]
    others = [each for each in vars(roots).values() if isinstance(each, Registry)]
    # A project's own scope comes first, as in the builders.
    names = [kind] if '.' in kind or scope == _OWN_SCOPE else [f'{scope}.{kind}', kind]
    for name, registry in itertools.product(names, [*registries, *others]):
        part = registry.get(name)
        if part is not None:
            return part
    known: set[str] = set()
    for each in registries:
        known |= {*(each.known(kind.rpartition('.')[0]) if isinstance(each, own.PartRegistry) else each.module_dict)}
        if isinstance(each, own.PartRegistry):
            known |= {name.rpartition('.')[2] for name in each.known(scope)}
    raise ValueError(f'{path}.type: there is no {kind!r}{did_you_mean(kind, known)}')


def _parameters(part: Any) -> dict[str, inspect.Parameter] | None:
    """Parameters that a class or function takes, by name; None if it takes any."""
    if not inspect.isclass(part):
        found = inspect.signature(part).parameters
        return None if _takes_any(found.values()) else dict(found)
    # Keywords that a class does not name go to the next one in its order of resolution.
    accepted: dict[str, inspect.Parameter] = {}
    for each in part.__mro__:
        if '__init__' not in vars(each) or each is object:
            continue
        found = list(inspect.signature(each.__init__).parameters.values())
        accepted = {**{one.name: one for one in found}, **accepted}
        if not _takes_any(found):
            return accepted
        if not _forwards(each, found):
            return None
    return accepted if part.__init__ is object.__init__ else None


def _takes_any(parameters: Iterable[inspect.Parameter]) -> bool:
    return any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters)


def _forwards(owner: type, parameters: Iterable[inspect.Parameter]) -> bool:
    """Whether ``**kwargs`` go to the base class, as by custom, and not to something else."""
    foreign = owner is torch.nn.Module or owner.__module__.partition('.')[0] in ('mmpretrain', 'mmcv', 'timm')
    return not foreign and any(each.name == 'kwargs' for each in parameters)


def _places(cfg: Any, key: str) -> str:
    """Where an option stands deeper in a config: set there, or taken by a part that is there; at most three places."""
    values = _plain(cfg)
    below = {section: values[section] for section in _REGISTRIES if section in values}
    places = [path for path, _ in walk(below) if path.rpartition('.')[2] == key and '.' in path]
    for path, entry, section in () if places else _entries(values):
        if isinstance(entry.get('type'), str):
            part = _find(path, entry['type'], section, entry['_scope_'])
            places += [f'{path}.{key}'] if key in (_parameters(part) or ()) else []
    return ' or '.join(sorted(places, key=len)[:3])
