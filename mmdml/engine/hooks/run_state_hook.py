"""What a run must remember beyond weights."""

import logging
from collections.abc import Iterator
from typing import Any

from mmengine.dist import all_reduce_params, get_world_size
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.optim import OptimWrapper
from torch import Tensor

from mmdml.engine.model_of import model_of
from mmdml.registry import HOOKS


@HOOKS.register_module()
class RunStateHook(Hook):
    """Keep what a run must remember beyond weights under ``checkpoint['mmdml']``.

    Whatever part of the model, hook or training sampler offers ``run_state() -> dict`` and ``load_run_state(dict)`` is
    saved and restored: plain tensors and numbers, so that weights-only loading takes them. Class statistics, embedding
    bank and sampler position travel this way. They are no model buffers, because those are only half restored on a
    size mismatch, copied by EMA, and published with the weights.

    With gradient accumulation a checkpoint may fall between two updates; the gradients collected so far are kept too.

    In a distributed run the ranks' batch norms see different images. Their running statistics are averaged after every
    iteration, so that sweeps, evaluation and checkpoints, on whatever rank, describe one network.

    Saving runs on rank 0 only, so a ``run_state`` must not talk to other ranks. Only ``--resume`` restores; testing or
    fine-tuning from a checkpoint does not.

    Config::

        default_hooks = dict(run_state=dict(type='RunStateHook'))
    """

    priority = 'VERY_HIGH'

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        if get_world_size() > 1:
            buffers = [buffer for buffer in model_of(runner).buffers() if buffer.is_floating_point()]
            all_reduce_params(buffers, op='mean')

    def before_save_checkpoint(self, runner, checkpoint: dict[str, Any]) -> None:
        state = {name: part.run_state() for name, part in self._parts(runner)}
        state['gradients'] = _pending_gradients(runner)
        checkpoint['mmdml'] = state

    def after_load_checkpoint(self, runner, checkpoint: dict[str, Any]) -> None:
        if not runner._resume:
            return
        saved = checkpoint.get('mmdml', {})
        parts = dict(self._parts(runner))
        missing = sorted(set(parts) - set(saved))
        if missing:
            raise KeyError(
                f'cannot resume: the checkpoint holds no state for {missing} (it has {sorted(saved)}). '
                'Was it written by another config? Resume with that config, or start from its weights with load_from.'
            )
        for name, part in parts.items():
            part.load_run_state(saved[name])
        parameters = dict(model_of(runner).named_parameters())
        for name, gradient in saved['gradients'].items():
            parameters[name].grad = gradient

    @staticmethod
    def _parts(runner) -> Iterator[tuple[str, Any]]:
        named = [(f'model.{name}', module) for name, module in model_of(runner).named_modules()]
        named += [(f'hook.{type(hook).__name__}', hook) for hook in runner.hooks]
        named.append(('sampler', runner.train_dataloader.sampler))
        for name, part in named:
            if hasattr(part, 'run_state'):
                yield name, part


def _pending_gradients(runner) -> dict[str, Tensor]:
    """Gradients that wait for the next update; none right after one."""
    wrapper = runner.optim_wrapper
    # A dictionary of wrappers counts in each of them and offers no such question.
    if not isinstance(wrapper, OptimWrapper) or wrapper.should_update():
        return {}
    if get_world_size() > 1:
        # Until the update each rank holds its own; saving runs on one of them.
        print_log(
            'the checkpoint falls between two updates of gradient accumulation: a run resumed from it loses the '
            'gradients collected since the last one. Make the epoch a multiple of accumulative_counts '
            '(num_batches of the sampler)',
            logger='current',
            level=logging.WARNING,
        )
        return {}
    parameters = model_of(runner).named_parameters()
    return {name: parameter.grad for name, parameter in parameters if parameter.grad is not None}
