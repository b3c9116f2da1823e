"""The moving average of the model, which is what is evaluated and saved."""

from itertools import chain
from typing import Any

from mmengine.hooks import EMAHook as _EMAHook
from mmengine.registry import MODELS
from torch import nn

from mmdml.registry import HOOKS


@HOOKS.register_module()
class EMAHook(_EMAHook):
    """MMEngine's ``EMAHook``, also of models whose frozen weights are in no checkpoint, as those with adapters are.

    The average is what is evaluated, and what a checkpoint has as its weights; the trained weights are in
    ``ema_state_dict``, and a resumed run continues with both.

    Args:
        kwargs: those of MMEngine's hook: ``momentum`` (weight of the newest model, 0.0002 by default), ``begin_epoch``
            or ``begin_iter`` (the model itself is evaluated and saved until then), and others.

    Raises:
        ValueError: a setting that the average refuses, such as a momentum beyond 0..1; before training, a beginning
            after the end of the run.

    Config::

        custom_hooks=[dict(type='EMAHook', momentum=0.001)]
    """

    def __init__(self, **kwargs: Any) -> None:
        try:
            super().__init__(**kwargs)
            MODELS.build(self.ema_cfg, default_args=dict(model=nn.Identity()))
        except (AssertionError, TypeError) as error:
            raise ValueError(f'{type(self).__name__}: {error}') from error

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        super().after_train_iter(runner, batch_idx, data_batch, outputs)
        if not self.ema_model.update_buffers:
            return  # then all buffers are copied
        # What is no real number, such as how many learners there are, would stay as it began.
        for copied, buffer in zip(self.ema_model.module.buffers(), self.src_model.buffers(), strict=True):
            if not buffer.is_floating_point():
                copied.copy_(buffer)

    def before_train(self, runner) -> None:
        if self.begin_epoch > runner.max_epochs or self.begin_iter > runner.max_iters:
            raise ValueError(
                f'{type(self).__name__}: begin_epoch={self.begin_epoch} and begin_iter={self.begin_iter} lie beyond '
                f'the {runner.max_epochs} epochs ({runner.max_iters:,} updates) of the run'
            )
        if self.ema_model.steps == 0:
            # The weights were initialized after the copy was made. A state dict would not do: it may lack frozen ones.
            copies, source = self.ema_model.module, self.src_model
            pairs = zip(
                chain(copies.parameters(), copies.buffers()), chain(source.parameters(), source.buffers()), strict=True
            )
            for copied, weight in pairs:
                copied.data.copy_(weight.data)
