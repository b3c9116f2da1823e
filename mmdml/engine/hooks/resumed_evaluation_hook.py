"""The evaluation that a run was stopped in, or after."""

import bisect
from typing import Any

from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import EpochBasedTrainLoop

from mmdml.registry import HOOKS


@HOOKS.register_module()
class ResumedEvaluationHook(Hook):
    """Evaluate before a resumed run trains on, where the run that wrote the checkpoint was about to.

    A checkpoint is saved before the evaluation of its epoch. What an evaluation changes - the best score, the patience
    of early stopping, the learning rate of a plateau schedule - is made up by evaluating again, whether or not the
    interrupted run came to the end of it. A run that had finished but for its last evaluation thus ends in scores.

    Config::

        default_hooks = dict(resumed_evaluation=dict(type='ResumedEvaluationHook'))
    """

    # After all others are ready to be evaluated.
    priority = 'LOWEST'

    def __init__(self) -> None:
        self._loop: Any = None
        self._due = False

    def before_train(self, runner) -> None:
        self._loop = runner.train_loop if runner.val_loop is not None else None
        if self._due and runner.val_loop is not None:
            print_log('Evaluating the checkpoint that the run resumes from', 'current')
            runner.val_loop.run()
        self._due = False

    def run_state(self) -> dict[str, Any]:
        """Whether an evaluation follows this checkpoint."""
        loop = self._loop
        # A run that stopped early has been evaluated where it stopped.
        return {'due': loop is not None and not loop.stop_training and _evaluates_after_step(loop)}

    def load_run_state(self, state: dict[str, Any]) -> None:
        """Remember it until training starts."""
        self._due = bool(state['due'])


def _evaluates_after_step(loop: Any) -> bool:
    """Whether a loop of MMEngine evaluates when the epoch or iteration that it is in is over."""
    by_epoch = isinstance(loop, EpochBasedTrainLoop)
    done, end = (loop.epoch + 1, loop.max_epochs) if by_epoch else (loop.iter + 1, loop.max_iters)
    # As in the loop's own _decide_current_val_interval, which counts epochs in both kinds.
    position = bisect.bisect(loop.dynamic_milestones, loop.epoch + 2 if by_epoch else loop.iter + 2)
    interval = loop.dynamic_intervals[position - 1]
    return done >= loop.val_begin and (done % interval == 0 or done == end)
