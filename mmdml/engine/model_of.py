"""What hooks read from a Runner: the model out of its distributed wrapper, and the position of the run."""

from mmengine.model import is_model_wrapper
from torch import nn

from mmdml.dist import get_rank, get_world_size
from mmdml.structures import Progress


def model_of(runner) -> nn.Module:
    """Return the ``ImageEmbedder`` of a Runner."""
    return runner.model.module if is_model_wrapper(runner.model) else runner.model


def progress_of(runner) -> Progress:
    """Position of a Runner in training."""
    return Progress(
        iter=runner.iter,
        max_iters=runner.max_iters,
        epoch_length=len(runner.train_dataloader),
        seed=runner.seed,
        rank=get_rank(),
        world_size=get_world_size(),
    )
