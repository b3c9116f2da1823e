"""What a run must remember beyond weights."""

import logging
from collections import Counter
from collections.abc import Iterator
from typing import Any

from mmengine.hooks import EarlyStoppingHook, Hook
from mmengine.logging import print_log
from mmengine.optim import OptimWrapper
from torch import Tensor

from mmdml.dist import get_world_size
from mmdml.engine.model_of import model_of
from mmdml.engine.resume import (
    all_schedulers,
    check_facts,
    check_parts,
    check_settings,
    facts_of_run,
    follow_new_end,
    settings_of_run,
)
from mmdml.registry import HOOKS

# Hooks of MMEngine that decide by what happened before, and the attributes in which they remember it.
_REMEMBERING: dict[type[Hook], tuple[str, ...]] = {EarlyStoppingHook: ('wait_count', 'best_score')}


@HOOKS.register_module()
class RunStateHook(Hook):
    """Keep what a run must remember beyond weights under ``checkpoint['mmdml']``.

    Whatever part of the model, hook or training sampler offers ``run_state() -> dict`` and ``load_run_state(dict)`` is
    saved and restored: plain tensors and numbers, so that weights-only loading takes them. Class statistics, embedding
    bank and sampler position travel this way. They are no model buffers, because those are only half restored on a
    size mismatch, copied by EMA, and published with the weights. Of MMEngine's hooks, the patience of
    ``EarlyStoppingHook`` is kept. A second hook of a class is called ``hook.NAME.1``.

    With gradient accumulation a checkpoint may fall between two updates; the gradients collected so far are kept too.

    Saving runs on rank 0 only, so a ``run_state`` must not talk to other ranks. Only ``--resume`` restores; testing or
    fine-tuning from a checkpoint does not.

    Raises:
        KeyError: when resuming, if the checkpoint lacks the state of a part, or has state of a part that is not there.
        ValueError: when resuming, if the checkpoint holds weights only; if batch size, number of processes, training
            images, optimizer, schedules or their settings are not those of the run that wrote it; or if the run is to
            have another length over which a schedule is stretched. Other settings that differ, such as those of the
            loss, hold from then on, with a warning.

    Config::

        default_hooks = dict(run_state=dict(type='RunStateHook'))
    """

    priority = 'VERY_HIGH'

    def __init__(self) -> None:
        # Schedules of a resumed run that have a step to make up.
        self._behind: list[int] = []

    def before_save_checkpoint(self, runner, checkpoint: dict[str, Any]) -> None:
        state = {name: _state_of(part) for name, part in self._parts(runner)}
        state['gradients'] = _pending_gradients(runner)
        state['run'] = facts_of_run(runner)
        state['settings'] = settings_of_run(runner.cfg)
        checkpoint['mmdml'] = state
        for schedule in _schedules_of(checkpoint):
            # A function, such as the one by which OneCycleLR anneals, is made anew, and would not load as data.
            for key in [key for key, value in schedule.items() if callable(value)]:
                del schedule[key]

    def after_load_checkpoint(self, runner, checkpoint: dict[str, Any]) -> None:
        if not runner._resume:
            return
        parts = dict(self._parts(runner))
        check_parts(checkpoint, set(parts))
        saved = checkpoint['mmdml']
        check_facts(saved['run'], facts_of_run(runner))
        changed = check_settings(saved['settings'], settings_of_run(runner.cfg))
        self._behind = follow_new_end(_schedules_of(checkpoint), runner.param_schedulers)
        if changed:
            print_log(changed, 'current', logging.WARNING)
        for name, part in parts.items():
            try:
                _restore(part, saved[name])
            except (AttributeError, KeyError, IndexError, TypeError, RuntimeError) as error:
                raise ValueError(
                    f'cannot resume: the state of {name} in the checkpoint cannot be restored '
                    f'({type(error).__name__}: {error}); the file is damaged, or was written by another version'
                ) from error
        parameters = dict(model_of(runner).named_parameters())
        for name, gradient in saved['gradients'].items():
            parameters[name].grad = gradient

    def before_train(self, runner) -> None:
        for number in self._behind:
            all_schedulers(runner.param_schedulers)[number].step()
        self._behind = []

    @staticmethod
    def _parts(runner) -> Iterator[tuple[str, Any]]:
        named = [(f'model.{name}', module) for name, module in model_of(runner).named_modules()]
        met: Counter[str] = Counter()
        for hook in runner.hooks:
            name = f'hook.{type(hook).__name__}'
            named.append((f'{name}.{met[name]}' if met[name] else name, hook))
            met[name] += 1
        named.append(('sampler', runner.train_dataloader.sampler))
        for name, part in named:
            if hasattr(part, 'run_state') or _remembered(part):
                yield name, part


def _schedules_of(checkpoint: dict[str, Any]) -> list[dict[str, Any]]:
    states = checkpoint.get('param_schedulers', [])
    return [state for part in states.values() for state in part] if isinstance(states, dict) else list(states)


def _remembered(part: Any) -> tuple[str, ...]:
    return next((names for kind, names in _REMEMBERING.items() if isinstance(part, kind)), ())


def _state_of(part: Any) -> dict[str, Any]:
    if hasattr(part, 'run_state'):
        return part.run_state()
    return {name: getattr(part, name) for name in _remembered(part)}


def _restore(part: Any, state: dict[str, Any]) -> None:
    if hasattr(part, 'run_state'):
        part.load_run_state(state)
        return
    for name in _remembered(part):
        setattr(part, name, state[name])


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
