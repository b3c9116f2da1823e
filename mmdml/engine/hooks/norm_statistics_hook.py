"""One network on all ranks, batch norms included."""

from mmengine.hooks import Hook
from torch.nn.modules.batchnorm import _NormBase

from mmdml.dist import average, get_world_size
from mmdml.engine.model_of import model_of
from mmdml.registry import HOOKS


@HOOKS.register_module()
class NormStatisticsHook(Hook):
    """Average the running statistics of batch norms over the ranks after every step.

    The ranks' batch norms see different images. With their statistics averaged, sweeps, evaluation and checkpoints, on
    whatever rank, describe one network. Norms in evaluation mode (``freeze_bn_stats``) are left alone, and without
    others nothing is sent.

    Config::

        default_hooks = dict(norm_statistics=dict(type='NormStatisticsHook'))
    """

    # Before the hooks that save and evaluate.
    priority = 'VERY_HIGH'

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        if get_world_size() == 1:
            return
        norms = [module for module in model_of(runner).modules() if isinstance(module, _NormBase) and module.training]
        buffers = [buffer for norm in norms for buffer in norm.buffers() if buffer.is_floating_point()]
        average(buffers)
