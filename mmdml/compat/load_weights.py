"""One strict loader of weights for every door: a checkpoint to score, ``load_from``, ``init_cfg``, models by name.

MMEngine loads what fits, prints the rest as one line and goes on; a wrong file then trains or scores random weights.
:func:`register_strict_loaders` replaces the functions of ``mmengine.runner.checkpoint`` that put weights into a module.
"""

import logging
import os.path as osp
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from mmdml.compat.weight_files import PARTIAL, Weights, below, container_of, weights_of

if TYPE_CHECKING:
    from torch import Tensor, nn

_SHAPES = re.compile(r'size mismatch for (\S+): copying a param with shape torch\.Size\((.*?)\).*?torch\.Size\((.*?)\)')


@dataclass(frozen=True)
class Load:
    """What one load put into a module.

    Args:
        source: path or address.
        loaded: names of the module's weights that were in the file.
        left_out: names of the file, or of the module's head, that were left out.
    """

    source: str
    loaded: frozenset[str]
    left_out: tuple[str, ...] = field(default=())


_LOADS: 'WeakKeyDictionary[nn.Module, Load]' = WeakKeyDictionary()


def register_strict_loaders(checkpoint: ModuleType) -> None:
    """Make every loader of MMEngine strict. Calling it again changes nothing.

    Args:
        checkpoint: the module ``mmengine.runner.checkpoint``, right after its import.
    """

    def load_file(filename: str, map_location: Any = None, logger: Any = 'current') -> dict[str, Any]:
        path = str(filename)
        content = checkpoint.CheckpointLoader.load_checkpoint(
            path.removeprefix(PARTIAL), map_location, logger or 'current'
        )
        weights = weights_of(content, path)
        return {**content, 'state_dict': weights} if container_of(content) else {'state_dict': weights}

    def load_with_prefix(prefix: str, filename: str, map_location: Any = None) -> Weights:
        return below(checkpoint._load_checkpoint(filename, map_location)['state_dict'], prefix)

    def load_to_model(model: 'nn.Module', content: dict, strict=False, logger=None, revise_keys=()) -> dict:
        load_weights(model, content['state_dict'])
        return content

    def load_state_dict(module: 'nn.Module', state_dict: Mapping[str, 'Tensor'], strict=False, logger=None) -> None:
        load_weights(module, state_dict)

    functions = {
        '_load_checkpoint': load_file,
        '_load_checkpoint_with_prefix': load_with_prefix,
        '_load_checkpoint_to_model': load_to_model,
        'load_state_dict': load_state_dict,
    }
    # Imported before mmdml, these have the functions already.
    users = [sys.modules[name] for name in ('mmengine.runner', 'mmengine.runner.runner') if name in sys.modules]
    for module in (checkpoint, *users):
        for name, function in functions.items():
            if module is checkpoint or hasattr(module, name):
                setattr(module, name, function)


def load_weights(module: 'nn.Module', weights: Mapping[str, 'Tensor']) -> Load:
    """Load weights into a module, or refuse them.

    A prefix that all names share is taken off. A module with a ``backbone`` is a whole model: every weight outside
    ``head.`` must be there, and nothing may be left over outside it; of the head what fits is loaded. For any other
    module (a backbone with an ``init_cfg``) all its weights must be there; what is left over must lie outside its own
    layers, such as the classifier of a public file. Marked as partial, what fits is loaded, at least one weight.

    Args:
        module: a model, bare or in MMEngine's wrapper, or a part of one.
        weights: from :func:`weights_of`; a plain state dict is taken as well.

    Raises:
        ValueError: names how many weights lack, are left over or have another shape, with examples, and the remedy.
    """
    module = _unwrapped(module)
    if not isinstance(weights, Weights):
        weights = Weights(weights, 'the state dict')
    own = module.state_dict()
    whole, partial = hasattr(module, 'backbone'), weights.partial
    weights, prefix = _aligned(weights, own)

    def optional(key: str) -> bool:
        return partial or (whole and key.startswith('head.'))

    # Of these a rank takes its part while it loads.
    whole_rows = {
        f'{name}.{each}'.lstrip('.'): rows
        for name, part in module.named_modules()
        for each, rows in getattr(part, 'sharded_parameters', {}).items()
    }

    def shape_of(key: str) -> tuple[int, ...]:
        return (whole_rows[key], *own[key].shape[1:]) if key in whole_rows else tuple(own[key].shape)

    other_shape = [key for key, value in weights.items() if key in own and shape_of(key) != tuple(value.shape)]
    left_out = [key for key in other_shape if optional(key)]
    missing, left_over, shapes = _load(module, weights, left_out)
    missing = [key for key in missing if not optional(key) and 'num_batches_tracked' not in key]
    # A part may leave the layers of a larger network over, but none of its own.
    layers = {key.partition('.')[0] for key in own}
    refused = [key for key in left_over if not optional(key) and (whole or key.partition('.')[0] in layers)]
    loaded = set(own) & set(weights) - set(left_out)
    if missing or refused or shapes or not loaded:
        raise ValueError(_refusal(weights, own, missing, refused, shapes, whole))
    load = Load(weights.source, frozenset(loaded), tuple([*left_out, *left_over]))
    _LOADS[module] = load
    _report(load, own, prefix)
    return load


def loaded_weights(model: 'nn.Module') -> tuple[int, int, list[str]]:
    """How many weights of a model came from files.

    Returns:
        Number of weights outside the head that were loaded, number of all, and the files, in order of the modules.
        Counters of batch norms are not counted.
    """
    model = _unwrapped(model)
    wanted = {key for key in model.state_dict() if not key.startswith('head.') and 'num_batches_tracked' not in key}
    loaded, sources = set(), []
    for name, module in model.named_modules():
        load = _LOADS.get(module)
        if load is not None:
            loaded |= {f'{name}.{key}'.lstrip('.') for key in load.loaded}
            sources.append(load.source)
    return len(loaded & wanted), len(wanted), sources


def _unwrapped(module: 'nn.Module') -> 'nn.Module':
    from mmengine.model import BaseTTAModel, is_model_wrapper

    while is_model_wrapper(module) or isinstance(module, BaseTTAModel):
        module = module.module
    return module


def _aligned(weights: Weights, own: Mapping[str, 'Tensor']) -> tuple[Weights, str]:
    """Rename the weights so that most names fit, and return the prefix that was taken off for it."""
    compiled = weights.renamed(lambda key: key.replace('_orig_mod.', ''))
    shared = osp.commonprefix([f'{key.rpartition(".")[0]}.' for key in compiled]).split('.')[:-1]
    best, taken = weights, ''
    for count in range(len(shared) + 1):
        prefix = ''.join(f'{part}.' for part in shared[:count])
        renamed = compiled.renamed(lambda key, prefix=prefix: key.removeprefix(prefix))
        if len(own.keys() & renamed.keys()) > len(own.keys() & best.keys()):
            best, taken = renamed, prefix or '_orig_mod.'
    return best, taken


def _load(
    module: 'nn.Module', weights: Weights, left_out: Iterable[str]
) -> tuple[list[str], list[str], list[tuple[str, str, str]]]:
    """Load by torch, and return what is missing, what is left over, and (name, shape, own shape) that differ.

    torch, not a comparison of names, decides: modules may rename or reshape what they load.
    """
    state = {key: value for key, value in weights.items() if key not in set(left_out)}
    try:
        found = module.load_state_dict(weights.with_metadata(state), strict=False)
    except RuntimeError as error:
        shapes = _SHAPES.findall(str(error))
        if not shapes:
            raise ValueError(f'{weights.source} does not fit {type(module).__name__}: {error}') from error
        return [], [], shapes
    # What the file has and torch misses, the module took out itself: Swin V2 computes its tables anew.
    missing = [key for key in found.missing_keys if key not in weights]
    return missing, list(found.unexpected_keys), []


def _refusal(
    weights: Weights,
    own: Mapping[str, 'Tensor'],
    missing: list[str],
    refused: list[str],
    shapes: list[tuple[str, str, str]],
    whole: bool,
) -> str:
    """Return the message of a refused load."""
    if shapes:
        problem = f'{len(shapes)} of its weights have another shape, e.g. {shapes[0][0]}: [{shapes[0][1].strip("[]")}] '
        problem += f'in the file, [{shapes[0][2].strip("[]")}] in the model'
    else:
        problem = (
            f'weights that it lacks: {some(missing)} of {len(own)}; weights that the model lacks: {some(refused)} of '
            f'{len(weights)}'
        )
    if whole:
        remedy = 'Was it trained with this config? To load what fits, for fine-tuning: load_from=partial:FILE'
    else:
        in_backbone = any(f'backbone.{key}' in weights for key in own)
        remedy = (
            "It has them below 'backbone.': set init_cfg.prefix='backbone.'"
            if in_backbone
            else 'If the backbone was changed, its init_cfg must change with it: --cfg-options '
            'model.backbone.init_cfg.checkpoint=FILE for weights of this backbone, or model.backbone.init_cfg=None to '
            'train from scratch'
        )
    return f'{weights.source} does not fit {"the model" if whole else "this part of the model"}: {problem}. {remedy}'


def some(names: Iterable[str]) -> str:
    """Return number and first few of a list of names."""
    names = list(names)
    return f'{len(names)} ({", ".join(names[:3])}{", ..." if len(names) > 3 else ""})' if names else 'none'


def _report(load: Load, own: Mapping[str, 'Tensor'], prefix: str) -> None:
    """Log what was loaded, renamed and left out."""
    from mmengine.logging import print_log

    message = f'{load.source}: {len(load.loaded)} of {len(own)} weights loaded'
    if prefix:
        message += f"; prefix '{prefix}' taken off"
    if load.left_out:
        message += f'; left out: {some(load.left_out)}'
    print_log(message, 'current', logging.INFO)
