"""Running statistics of batch norms while a part of a network is computed again."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


@contextmanager
def statistics_kept(model: nn.Module) -> Iterator[None]:
    """Leave the running statistics of batch norms as they are."""
    norms = [
        (module, module.momentum, module.num_batches_tracked.clone())
        for module in model.modules()
        if isinstance(module, _BatchNorm) and module.training and module.track_running_stats
    ]
    for module, _, _ in norms:
        module.momentum = 0.0
    try:
        yield
    finally:
        for module, momentum, number in norms:
            module.momentum = momentum
            module.num_batches_tracked.copy_(number)
