"""The model of a run, out of its distributed wrapper."""

from mmengine.model import is_model_wrapper
from torch import nn


def model_of(runner) -> nn.Module:
    """The ``ImageEmbedder`` of a Runner."""
    return runner.model.module if is_model_wrapper(runner.model) else runner.model
