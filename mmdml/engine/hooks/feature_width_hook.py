"""Widths of the features that a run trains on and is evaluated on."""

from typing import Any

from mmengine.hooks import Hook

from mmdml.registry import HOOKS


@HOOKS.register_module()
class FeatureWidthHook(Hook):
    """Check that rows of features are as wide in the evaluation as in the training.

    Raises:
        ValueError: before training, if they are not.

    Every run of ``MetricLearningRunner`` has it; ``feature_width=None`` leaves it out.

    Config::

        default_hooks = dict(feature_width=dict(type='FeatureWidthHook'))
    """

    def before_train(self, runner) -> None:
        widths = dict(train_dataloader=_widths(runner.train_dataloader.dataset))
        if runner.val_loop is not None:
            widths['val_dataloader'] = _widths(runner.val_dataloader.dataset)
        found = {width: name for name, each in reversed(widths.items()) for width in reversed(each)}
        if len(found) > 1:
            words = ' and '.join(f'{width} ({name}.dataset)' for width, name in reversed(found.items()))
            raise ValueError(f'rows of features must be of one width, got {words}; were they made by one backbone?')


def _widths(dataset: Any) -> list[int]:
    """Return the widths of a dataset of features, or of the parts of a concatenation; none of images."""
    parts = getattr(dataset, 'datasets', [dataset])
    return [part.width for part in parts if hasattr(part, 'width')]
