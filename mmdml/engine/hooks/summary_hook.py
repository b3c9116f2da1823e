"""What a run has to say: all of it in one log, and in the end in one line."""

import time
from typing import Any

from mmengine.hooks import CheckpointHook, EarlyStoppingHook, Hook
from mmengine.optim import ReduceOnPlateauParamScheduler

from mmdml.engine.run_log import join_run_log, leave_run_log
from mmdml.registry import HOOKS
from mmdml.utils.console import show

_CLASSES = {'train': 'training classes', 'val': 'validation classes', 'test': 'test classes'}


@HOOKS.register_module()
class SummaryHook(Hook):
    """Refuse to select on test classes, and end a run with one line that says what came out.

    Scores on test classes during training are a monitor: they are logged under that name and select nothing. A best
    checkpoint or early stopping needs a validation data set of held-out *training* classes (``split='val'``).
    The log of the run also gets what is told to the logger 'mmdml': the progress of a long evaluation,
    and warnings such as queries that have no positive.

    Raises:
        ValueError: before training, if a best checkpoint, early stopping or a plateau schedule selects by scores on
            test classes, or on validation classes that are trained on.

    Config::

        default_hooks = dict(summary=dict(type='SummaryHook'))
    """

    priority = 'LOWEST'

    def __init__(self) -> None:
        self._start = 0.0
        self._first_iter = 0
        self._last_scores: dict[str, float] | None = None

    def before_run(self, runner) -> None:
        join_run_log()

    def after_run(self, runner) -> None:
        leave_run_log()

    def before_train(self, runner) -> None:
        self._start = time.time()
        self._first_iter = runner.iter
        self._on_test_classes = False
        if runner.val_loop is None:
            return
        dataset = runner.val_dataloader.dataset
        split = getattr(dataset, 'split', None)
        self._on_test_classes = split == 'test'
        self._where = _CLASSES.get(split, 'validation data')
        selecting = [
            type(part).__name__ for part in [*runner.hooks, *(runner.param_schedulers or [])] if _selects(part)
        ]
        if selecting:
            _check_selection(selecting, split, runner.train_dataloader.dataset, dataset)
        if self._on_test_classes:
            show('Evaluations during training are a monitor on test classes: they select nothing')

    def after_val_epoch(self, runner, metrics: dict[str, float] | None = None) -> None:
        self._last_scores = metrics

    def after_train(self, runner) -> None:
        minutes, seconds = divmod(round(time.time() - self._start), 60)
        parts = [f'{runner.iter - self._first_iter} updates in {minutes} min {seconds:02d} s']
        if self._last_scores:
            parts.append(f'{_scores(self._last_scores)} ({self._where}, last evaluation)')
        for key in ('last_ckpt', 'best_ckpt'):
            path = runner.message_hub.get_info(key) if key in runner.message_hub.runtime_info else None
            if path:
                parts.append(f'{key.replace("_ckpt", "")} checkpoint {path}')
        show('Done: ' + '; '.join(parts))

    def after_test_epoch(self, runner, metrics: dict[str, float] | None = None) -> None:
        if metrics:
            show(f'Done: {_scores(metrics)} ({len(runner.test_dataloader.dataset)} images)')


def _selects(part: Any) -> bool:
    if isinstance(part, CheckpointHook):
        return part.save_best is not None
    return isinstance(part, EarlyStoppingHook | ReduceOnPlateauParamScheduler)


def _check_selection(selecting: list[str], split: str | None, trained: Any, held_out: Any) -> None:
    """What selects must look at classes that are neither test classes nor trained on."""
    remedy = (
        'Validate on held-out training classes: train_dataloader.dataset.val_classes=0.2 '
        "val_dataloader.dataset.split='val' val_dataloader.dataset.val_classes=0.2"
    )
    if split not in ('train', 'val'):
        raise ValueError(f'{selecting} would select by scores on test classes (split={split!r}). {remedy}')
    if split == 'val':
        common = set(trained.metainfo['classes']) & set(held_out.metainfo['classes'])
        if common:
            raise ValueError(
                f'{selecting} would select by scores on {len(common)} validation classes that are trained on, e.g. '
                f'{sorted(common)[0]!r}: the training data set needs the same val_classes. {remedy}'
            )


def _scores(metrics: dict[str, float]) -> str:
    return ', '.join(f'{key.removeprefix("retrieval/")} {value:.2f}' for key, value in metrics.items() if '/' in key)
