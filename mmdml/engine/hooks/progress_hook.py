"""Where the run stands, told to the head."""

from mmengine.hooks import Hook

from mmdml.engine.model_of import model_of
from mmdml.registry import HOOKS
from mmdml.structures.progress import Progress


@HOOKS.register_module()
class ProgressHook(Hook):
    """Tell the head before every training iteration where the run stands.

    Schedules (IAA's onset, its lambda) and the noise streams read it.

    Raises:
        ValueError: before training, if loader and sampler disagree on the batch size, which would break P x K batches.

    Config::

        default_hooks = dict(progress=dict(type='ProgressHook'))
    """

    priority = 'VERY_HIGH'

    def before_train(self, runner) -> None:
        loader = runner.train_dataloader
        expected = getattr(loader.sampler, 'batch_size', loader.batch_size)
        if loader.batch_size != expected:
            raise ValueError(
                f'train_dataloader.batch_size is {loader.batch_size}, but its sampler orders batches of {expected}: '
                'set train_dataloader.batch_size and train_dataloader.sampler.batch_size to the same number'
            )

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        model = model_of(runner)
        model.head.progress = Progress.of(runner)
