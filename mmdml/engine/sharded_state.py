"""Parameters that are divided among the ranks, in checkpoints that hold them whole."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.hooks import EMAHook
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from torch import Tensor, nn

from mmdml.dist import gather_uneven, get_world_size
from mmdml.engine.model_of import model_of

#: State of the optimizer, by index of the parameter and name.
OptimizerState = dict[int, dict[str, Tensor]]


def sharded_modules(runner) -> list[nn.Module]:
    """Modules of the model that hold a part of a parameter."""
    return [module for module in model_of(runner).modules() if getattr(module, 'sharded_parameters', None)]


def check_sharding(runner) -> None:
    """Refuse what treats the ranks' parts of a parameter as if all ranks had the same.

    Raises:
        ValueError: for gradient clipping, whose norm each rank would take over its own part; for loss scaling, by which
            one rank alone could skip a step; for several optimizers; for averaged weights, of which a checkpoint would
            hold one rank's part.
    """
    if get_world_size() == 1 or not sharded_modules(runner):
        return
    averaging = [type(hook).__name__ for hook in runner.hooks if isinstance(hook, EMAHook)]
    if averaging:
        raise ValueError(f'sharded proxies have no averaged weights: remove {averaging[0]}, or set sharded=False')
    wrapper = runner.optim_wrapper
    if not isinstance(wrapper, OptimWrapper):
        raise ValueError('sharded proxies need a single optimizer')
    if wrapper.clip_grad_kwargs:
        raise ValueError('sharded proxies cannot be clipped by their norm: remove optim_wrapper.clip_grad')
    scaled = isinstance(wrapper, AmpOptimWrapper) and wrapper.loss_scaler.is_enabled()
    if scaled and wrapper.cast_dtype != torch.bfloat16:
        raise ValueError("sharded proxies need no loss scaling: set optim_wrapper.dtype='bfloat16'")


@contextmanager
def whole_on_saving(runner) -> Iterator[OptimizerState]:
    """Collect the ranks' parts for the checkpoint that is saved meanwhile; all ranks enter.

    Yields:
        The whole state of the optimizer for the parameters that are sharded.
    """
    modules = sharded_modules(runner)
    for module in modules:
        module.gather_shards()
    state: OptimizerState = {}
    if modules:
        for index, part, entries in _sharded_entries(runner):
            state[index] = {
                name: gather_uneven(value, to='cpu') for name, value in entries.items() if value.shape == part.shape
            }
    try:
        yield state
    finally:
        for module in modules:
            module.drop_shards()


def take_own_part(runner, optimizer: dict[str, Any]) -> None:
    """Cut a loaded state of the optimizer to this rank's part."""
    for index, part, module in _indexed(runner):
        for name, value in optimizer['state'].get(index, {}).items():
            if isinstance(value, Tensor) and value.shape[1:] == part.shape[1:]:
                optimizer['state'][index][name] = module.own_rows(value)


def _indexed(runner) -> Iterator[tuple[int, nn.Parameter, nn.Module]]:
    owners = {id(getattr(m, name)): m for m in sharded_modules(runner) for name in m.sharded_parameters}
    groups = runner.optim_wrapper.optimizer.param_groups if owners else []
    for index, parameter in enumerate(each for group in groups for each in group['params']):
        if id(parameter) in owners:
            yield index, parameter, owners[id(parameter)]


def _sharded_entries(runner) -> Iterator[tuple[int, nn.Parameter, dict[str, Tensor]]]:
    state = runner.optim_wrapper.optimizer.state
    for index, parameter, _ in _indexed(runner):
        entries = {name: value for name, value in state.get(parameter, {}).items() if isinstance(value, Tensor)}
        yield index, parameter, entries
