"""Warm-up with a frozen backbone."""

from mmengine.hooks import Hook

from mmdml.dist import get_world_size
from mmdml.engine.model_of import model_of, progress_of
from mmdml.registry import HOOKS
from mmdml.utils.numbers import check_counts


@HOOKS.register_module()
class FreezeBackboneHook(Hook):
    """Train only what follows the backbone for the first epochs, so that a random head does not spoil the features.

    The backbone's backward pass is skipped meanwhile. Batch-norm statistics are not touched
    (``ImageEmbedder.freeze_bn_stats`` does that).

    Args:
        epochs: length of the warm-up in epochs, an integer of at least 1.

    Raises:
        ValueError: for another number of epochs; in distributed runs without ``find_unused_parameters=True``.

    Config::

        custom_hooks = [dict(type='FreezeBackboneHook', epochs=5)]
    """

    def __init__(self, epochs: int) -> None:
        check_counts(epochs=epochs)
        self.epochs = epochs

    def before_train(self, runner) -> None:
        if get_world_size() > 1 and not runner.cfg.get('find_unused_parameters', False):
            raise ValueError('FreezeBackboneHook in a distributed run needs find_unused_parameters=True in the config')

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        reasons = model_of(runner).backbone_frozen_by
        if progress_of(runner).epoch < self.epochs:
            reasons.add('FreezeBackboneHook')
        else:
            reasons.discard('FreezeBackboneHook')
