"""A run that has left the finite numbers ends before it saves what is left of it."""

import math
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.optim import AmpOptimWrapper
from torch import Tensor

from mmdml.engine.checkpoints import checkpoint_folder_of
from mmdml.registry import HOOKS
from mmdml.utils.numbers import check_counts


@HOOKS.register_module()
class FiniteLossHook(Hook):
    """End a run whose loss or weights are not finite, naming the update, before anything is saved or evaluated.

    On the CPU the loss is looked at after every step. An accelerator would have to be waited for, so there the losses
    of ``interval`` steps are looked at together, and before every evaluation and checkpoint. With loss scaling
    (``AmpOptimWrapper``) single losses may overflow, and their steps are left out by the scaler; only an interval
    without any finite loss ends the run.

    Args:
        interval: steps between two looks on an accelerator, an integer of at least 1.

    Raises:
        RuntimeError: during training, naming the update, the loss, the learning rate and the newest whole checkpoint.

    Config::

        default_hooks = dict(finite_loss=dict(type='FiniteLossHook', interval=50))
    """

    priority = 'NORMAL'

    def __init__(self, interval: int = 50) -> None:
        check_counts(interval=interval)
        self.interval = interval
        self._losses: list[tuple[int, Tensor]] = []
        self._updates = 0

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        self._updates = runner.iter + 1
        loss = (outputs or {}).get('loss')
        if loss is None:
            return
        loss = torch.as_tensor(loss).detach()
        self._losses.append((self._updates, loss))
        if loss.device.type == 'cpu' and not _scales(runner) or len(self._losses) >= self.interval:
            self._look(runner)

    def before_val(self, runner) -> None:
        self._look(runner)

    def before_save_checkpoint(self, runner, checkpoint: dict[str, Any]) -> None:
        self._look(runner)
        trained = {name for name, _ in runner.model.named_parameters()}
        trained |= {name.removeprefix('module.') for name in trained}
        for name, value in checkpoint['state_dict'].items():
            # A buffer may hold infinities on purpose.
            bad = value.isnan() if name not in trained else ~value.isfinite()
            if value.is_floating_point() and bad.any():
                _stop(runner, f'after update {self._updates}, {int(bad.sum())} values of {name} are not finite')

    def _look(self, runner) -> None:
        losses, self._losses = self._losses, []
        if not losses:
            return
        values = torch.stack([loss.float().reshape(()) for _, loss in losses]).tolist()
        bad = [(update, value) for (update, _), value in zip(losses, values, strict=True) if not math.isfinite(value)]
        if bad and (not _scales(runner) or len(bad) == len(losses) >= self.interval):
            _stop(runner, f'the loss of update {bad[0][0]} is not finite: {bad[0][1]}')


def _scales(runner) -> bool:
    return isinstance(runner.optim_wrapper, AmpOptimWrapper)


def _stop(runner, what: str) -> None:
    whole, _ = checkpoint_folder_of(runner).newest_whole()
    rates = runner.optim_wrapper.get_lr()
    rate = ', '.join(f'{name}={values[0]:g}' for name, values in rates.items() if name.endswith('lr'))
    kept = f'The newest good checkpoint is {whole}. ' if whole else 'No checkpoint was written yet. '
    start = f', or from its weights with load_from={whole}, in another --work-dir' if whole else ''
    raise RuntimeError(
        f'{what} ({rate}). {kept}Lower optim_wrapper.optimizer.lr or set optim_wrapper.clip_grad.max_norm=1, and start '
        f'anew{start}'
    )
