"""Warm-up with a frozen backbone."""

from mmengine.dist import get_world_size
from mmengine.hooks import Hook

from mmdml.engine.model_of import model_of
from mmdml.engine.progress import Progress
from mmdml.registry import HOOKS


@HOOKS.register_module()
class FreezeBackboneHook(Hook):
    """Train only what follows the backbone for the first epochs, so that a random head does not spoil the features.

    Parameters are frozen after the optimiser was built, which therefore knows them all; their old flags come back when
    the warm-up ends. Batch-norm statistics are not touched (``ImageEmbedder.freeze_bn_stats`` does that).

    Args:
        epochs: length of the warm-up in epochs, > 0.

    Raises:
        ValueError: in distributed runs without ``find_unused_parameters=True``.

    Config::

        custom_hooks = [dict(type='FreezeBackboneHook', epochs=5)]
    """

    def __init__(self, epochs: int) -> None:
        if epochs <= 0:
            raise ValueError(f'epochs must be > 0, got {epochs}')
        self.epochs = epochs
        self._flags: list[bool] | None = None

    def before_train(self, runner) -> None:
        if get_world_size() > 1 and not runner.cfg.get('find_unused_parameters', False):
            raise ValueError('FreezeBackboneHook in a distributed run needs find_unused_parameters=True in the config')

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        model = model_of(runner)
        parameters = list(model.backbone.parameters())
        frozen = Progress.of(runner).epoch < self.epochs
        if frozen and self._flags is None:
            self._flags = [parameter.requires_grad for parameter in parameters]
            for parameter in parameters:
                parameter.requires_grad_(False)
        elif not frozen and self._flags is not None:
            for parameter, flag in zip(parameters, self._flags, strict=True):
                parameter.requires_grad_(flag)
            self._flags = None
