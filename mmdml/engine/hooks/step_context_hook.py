"""The position of the run and the active learner, for the head and its sources."""

import logging
from collections.abc import Sequence

from mmengine.hooks import Hook
from mmengine.logging import print_log
from torch import nn
from torch.utils.data import DataLoader

from mmdml.engine.model_of import model_of, progress_of
from mmdml.registry import HOOKS
from mmdml.structures import LateStarter, LearnerProvider, RowReceiver, StepContext


def require_batches_of_the_sampler(loader: DataLoader) -> None:
    """Check that a loader for training cuts the indices of its sampler into the batches that the sampler ordered.

    Raises:
        ValueError: they have other sizes.
    """
    expected = getattr(loader.sampler, 'batch_size', loader.batch_size)
    if loader.batch_size != expected:
        raise ValueError(
            f'train_dataloader.batch_size is {loader.batch_size}, but its sampler orders batches of {expected}: '
            'set train_dataloader.batch_size and train_dataloader.sampler.batch_size to the same number'
        )


def require_division(model: nn.Module, providers: Sequence[LearnerProvider]) -> None:
    """Check that a model of several learners has a hook that divides the images among them.

    Weights that are divided already can be trained on without one, as the merged embedding.

    Raises:
        ValueError: it has none, and would train as if there were one learner.
    """
    neck = getattr(model, 'neck', None)
    if not providers and getattr(neck, 'num_learners', 1) > 1 == neck.num_active:
        raise ValueError(
            f'neck.num_learners is {neck.num_learners}, but no hook divides the images among the learners, and the '
            "whole embedding would train alone: custom_hooks needs dict(type='DivisionHook', ...), also where a new "
            'list replaces an inherited one; or set neck.num_learners=1'
        )


def warn_of_late_starters(runner) -> None:
    """Log a warning for each part of a run that begins behind its end."""
    progress = progress_of(runner)
    parts = dict(model_of(runner).named_modules()) | {type(hook).__name__: hook for hook in runner.hooks}
    for name, part in parts.items():
        if isinstance(part, LateStarter) and part.first_step(progress) >= progress.max_iters:
            print_log(
                f'{type(part).__name__} ({name}) waits for {part.first_step(progress):,} updates, but the run has '
                f'{progress.max_iters:,}: what it does after them will not happen',
                logger='current',
                level=logging.WARNING,
            )


@HOOKS.register_module()
class StepContextHook(Hook):
    """Set ``model.step``, the :class:`~mmdml.structures.StepContext`, before every training iteration.

    Schedules (IAA's onset, its lambda) and the random streams of a step depend on it. The learner comes from the hook
    of the run that is a :class:`~mmdml.structures.LearnerProvider`; the real rows of the step go to the hooks that are
    a :class:`~mmdml.structures.RowReceiver`. Runs after the hooks that prepare a step.

    Raises:
        ValueError: before training, if loader and sampler disagree on the batch size, which would break P x K batches,
            several hooks choose the learner, or none does although the neck has several.

    Config::

        default_hooks = dict(step_context=dict(type='StepContextHook'))
    """

    priority = 'LOW'

    def before_train(self, runner) -> None:
        require_batches_of_the_sampler(runner.train_dataloader)
        self._providers = [hook for hook in runner.hooks if isinstance(hook, LearnerProvider)]
        if len(self._providers) > 1:
            names = [type(hook).__name__ for hook in self._providers]
            raise ValueError(f'one hook chooses the learner of a step, got {names}')
        require_division(model_of(runner), self._providers)
        warn_of_late_starters(runner)
        self._receivers = tuple(hook.receive_rows for hook in runner.hooks if isinstance(hook, RowReceiver))

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        model = model_of(runner)
        indices = [provider.learner_of_step(runner, batch_idx, data_batch) for provider in self._providers]
        learners = [model.neck.active(index) for index in indices if index is not None]
        model.step = StepContext(progress_of(runner), *learners, receivers=self._receivers)

    def after_train(self, runner) -> None:
        model_of(runner).step = None
