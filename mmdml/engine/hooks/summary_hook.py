"""The log of a run, and its last line."""

import time
from typing import Any

from mmengine.hooks import Hook

from mmdml.engine.evaluated_data import describe_evaluated
from mmdml.engine.hooks.console_hook import scores_as_text
from mmdml.engine.run_log import join_run_log, leave_run_log
from mmdml.registry import HOOKS
from mmdml.utils.console import show


@HOOKS.register_module()
class SummaryHook(Hook):
    """End a run with one line: updates, time, scores and of what, checkpoints.

    Meanwhile the log of the run gets the records of the logger 'mmdml': the progress of a long evaluation, and warnings
    such as queries that have no positive.

    Config::

        default_hooks = dict(summary=dict(type='SummaryHook'))
    """

    priority = 'LOWEST'

    def __init__(self) -> None:
        self._start = 0.0
        self._first_iter = 0
        self._last_scores: dict[str, Any] | None = None

    def before_run(self, runner) -> None:
        join_run_log()

    def after_run(self, runner) -> None:
        leave_run_log()

    def before_train(self, runner) -> None:
        self._start = time.time()
        self._first_iter = runner.iter

    def after_val_epoch(self, runner, metrics: dict[str, float] | None = None) -> None:
        self._last_scores = metrics

    def after_train(self, runner) -> None:
        minutes, seconds = divmod(round(time.time() - self._start), 60)
        parts = [f'{runner.iter - self._first_iter} updates in {minutes} min {seconds:02d} s']
        if self._last_scores:
            scored = describe_evaluated(runner.val_dataloader.dataset, runner.train_dataloader.dataset)
            parts.append(f'{scores_as_text(self._last_scores)} ({scored}, last evaluation)')
        for key in ('last_ckpt', 'best_ckpt'):
            path = runner.message_hub.get_info(key) if key in runner.message_hub.runtime_info else None
            if path:
                parts.append(f'{key.replace("_ckpt", "")} checkpoint {path}')
        show('Done: ' + '; '.join(parts))

    def after_test_epoch(self, runner, metrics: dict[str, float] | None = None) -> None:
        if metrics:
            dataset = runner.test_dataloader.dataset
            show(f'Done: {scores_as_text(metrics)} ({len(dataset)} images, {describe_evaluated(dataset)})')
