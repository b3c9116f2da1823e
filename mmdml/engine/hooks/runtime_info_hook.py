"""Losses for the log, read from the device once in a while."""

from typing import Any

import torch
from mmengine.hooks import CheckpointHook, LoggerHook
from mmengine.hooks import RuntimeInfoHook as MMEngineRuntimeInfoHook
from torch import Tensor

from mmdml.registry import HOOKS


@HOOKS.register_module()
class RuntimeInfoHook(MMEngineRuntimeInfoHook):
    """Pass what a step returns on to the log, in one read for all steps since the last log line.

    MMEngine's hook of this name reads every value at every step, for which the host waits until an accelerator has
    finished the step. What reaches the log is the same.

    Config::

        default_hooks = dict(runtime_info=dict(type='RuntimeInfoHook'))
    """

    def __init__(self) -> None:
        super().__init__()
        self._waiting: list[tuple[str, Tensor]] = []

    def after_train_iter(
        self, runner, batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        for key, value in (outputs or {}).items():
            self._waiting.append((f'train/{key}', torch.as_tensor(value).detach()))
        # A checkpoint by epochs comes at the end of one; its interval is no number of steps.
        readers = [
            hook.interval
            for hook in runner.hooks
            if isinstance(hook, (LoggerHook, CheckpointHook)) and not getattr(hook, 'by_epoch', False)
        ]
        done = runner.iter + 1
        due = any(interval > 0 and (done % interval == 0 or (batch_idx + 1) % interval == 0) for interval in readers)
        if due or done >= runner.max_iters or self.end_of_epoch(runner.train_dataloader, batch_idx):
            self.read(runner)

    def before_val(self, runner) -> None:
        self.read(runner)
        super().before_val(runner)

    def read(self, runner) -> None:
        """Pass the waiting values on, in the order of the steps."""
        waiting, self._waiting = self._waiting, []
        if waiting:
            values = torch.stack([value.float().reshape(()).to(waiting[0][1].device) for _, value in waiting])
            for (key, _), value in zip(waiting, values.tolist(), strict=True):
                runner.message_hub.update_scalar(key, value)
