"""Columns of the training set, for the parts of the model that read them."""

from mmengine.hooks import Hook

from mmdml.engine.model_of import model_of
from mmdml.registry import HOOKS
from mmdml.structures import ColumnReader


@HOOKS.register_module()
class DatasetColumnsHook(Hook):
    """Pass labels and columns of the training set to each :class:`~mmdml.structures.ColumnReader` of the model.

    Targets of several labels or of a hierarchy read them, before training.

    Raises:
        ValueError: before training, if the training set has no columns, or lacks one that is needed.

    Config::

        default_hooks = dict(dataset_columns=dict(type='DatasetColumnsHook'))
    """

    def before_train(self, runner) -> None:
        dataset = runner.train_dataloader.dataset
        for part in model_of(runner).modules():
            if isinstance(part, ColumnReader):
                if not hasattr(dataset, 'columns'):
                    reader, source = type(part).__name__, type(dataset).__name__
                    raise ValueError(f'{reader} reads columns of the training set, but {source} has none')
                part.read_columns(dataset.labels, dataset.columns)
