"""What a run shows on the console."""

import logging
import time
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.runner import IterBasedTrainLoop

from mmdml.dist import is_main_process
from mmdml.engine.collapse import describe_collapse
from mmdml.engine.run_facts import test_facts, training_facts
from mmdml.registry import HOOKS
from mmdml.utils.console import SignOfLife, duration, show

#: Where the message hub of a run has the scores of the model before its first update.
SCORES_BEFORE = 'scores_before_training'


@HOOKS.register_module()
class ConsoleHook(Hook):
    """Show what a run is about to do, a sign of life every 10 to 20 s, its scores, and a collapse.

    The tools show nothing else on the console; the log file has everything. A run that scores no better than chance, or
    whose loss does not move, is reported once, with likely causes.

    Args:
        score_first: score the model before the first update as well. A resumed run does not.
        every: seconds between two lines of progress.

    Config::

        default_hooks = dict(console=dict(type='ConsoleHook', score_first=True))
    """

    # After the hooks that load, resume and check; before the one that sums up.
    priority = 'VERY_LOW'

    def __init__(self, score_first: bool = False, every: float = 10.0) -> None:
        self.score_first = score_first
        self._life = SignOfLife(every, 2 * every, _on_main_process)
        self._start = 0.0
        self._first_iter = 0
        self._reported = False

    def before_train(self, runner) -> None:
        for line in training_facts(runner) if is_main_process() else ():
            show(line)
        if self.score_first and runner.val_loop is not None and runner.iter == 0:
            self._life.begin('scoring the model before training')
            scores = score_model(runner.val_loop, runner.model)
            # Kept in checkpoints, so that a resumed run has them.
            runner.message_hub.update_info(SCORES_BEFORE, scores)
            self._life.say(f'before training: {scores_as_text(scores)}')
        self._start, self._first_iter = time.monotonic(), runner.iter
        self._life.begin('preparing the first update')
        self._life.start()

    def before_train_epoch(self, runner) -> None:
        self._life.begin(f'preparing epoch {runner.epoch + 1}')

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs: dict[str, Any] | None = None) -> None:
        self._life.begin(f'epoch {runner.epoch + 1}, update {batch_idx + 1}')
        self._life.offer(lambda: self._progress(runner, batch_idx, outputs))

    def _progress(self, runner, batch_idx: int, outputs: dict[str, Any] | None) -> str:
        done = runner.iter + 1
        rate = (done - self._first_iter) / max(time.monotonic() - self._start, 1e-9)
        where = f'update {done:,} of {runner.max_iters:,}'
        if not isinstance(runner.train_loop, IterBasedTrainLoop):
            where = f'epoch {runner.epoch + 1} of {runner.max_epochs}, {where}'
        loss = '' if not outputs or 'loss' not in outputs else f'loss {float(outputs["loss"].detach()):.4g}, '
        left = duration((runner.max_iters - done) / rate)
        return f'{where}: {loss}learning rate {_highest_rate(runner):.3g}, {rate:.3g} updates a second, {left} left'

    def before_val_epoch(self, runner) -> None:
        self._life.begin('evaluating')

    def after_val_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        self._evaluated(runner.val_dataloader, batch_idx)

    def after_val_epoch(self, runner, metrics: dict[str, float] | None = None) -> None:
        if not metrics:
            return
        trained = not isinstance(runner._train_loop, dict | None)
        when = f' after {_position(runner)}' if trained else ''
        self._life.say(f'evaluation{when}: {scores_as_text(metrics)}')
        if trained and not self._reported:
            self._report_collapse(runner, metrics)

    def _report_collapse(self, runner, metrics: dict[str, float]) -> None:
        recall = next((value for key, value in metrics.items() if key.endswith('Recall@1')), None)
        losses = runner.message_hub.log_scalars.get('train/loss')
        line = describe_collapse(
            recall,
            getattr(runner.val_dataloader.dataset, 'labels', None),
            [] if losses is None else losses.data[0].tolist(),
            _highest_rate(runner),
        )
        if line and is_main_process():
            self._reported = True
            show(line, logging.WARNING)

    def after_train(self, runner) -> None:
        self._life.stop()

    def before_test(self, runner) -> None:
        for line in test_facts(runner) if is_main_process() else ():
            show(line)
        self._life.begin('evaluating')
        self._life.start()

    def after_test_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        self._evaluated(runner.test_dataloader, batch_idx)

    def after_test(self, runner) -> None:
        self._life.stop()

    def _evaluated(self, loader: Any, batch_idx: int) -> None:
        done, number = batch_idx + 1, len(loader)
        self._life.begin('scoring' if done == number else f'embedding batch {done:,} of {number:,}')
        self._life.offer(lambda: f'embedded {done:,} of {number:,} batches')

    def after_run(self, runner) -> None:
        self._life.stop()


def _on_main_process(line: str) -> None:
    if is_main_process():
        show(line)


def _position(runner) -> str:
    if isinstance(runner.train_loop, IterBasedTrainLoop):
        return f'update {runner.iter:,}'
    return f'epoch {runner.epoch} of {runner.max_epochs}'


def _highest_rate(runner) -> float:
    rates = runner.optim_wrapper.get_lr()
    return max(rate for each in rates.values() for rate in each)


@torch.no_grad()
def score_model(loop: Any, model: torch.nn.Module) -> dict[str, float]:
    """Score a model on the data and by the metrics of a loop, without its hooks, which would log and select."""
    training = model.training
    model.eval()
    for batch in loop.dataloader:
        loop.evaluator.process(data_samples=model.val_step(batch), data_batch=batch)
    metrics = loop.evaluator.evaluate(len(loop.dataloader.dataset))
    model.train(training)
    return metrics


def scores_as_text(metrics: dict[str, Any]) -> str:
    """``{'retrieval/Recall@1': 71.3}`` as ``'Recall@1 71.30'``; what is no number, such as a list, is in the log."""
    return ', '.join(f'{key.removeprefix("retrieval/")} {_number_as_text(value)}' for key, value in metrics.items())


def _number_as_text(value: Any) -> str:
    try:
        return f'{float(value):.2f}'
    except (TypeError, ValueError, RuntimeError):
        return '(see the log)'
