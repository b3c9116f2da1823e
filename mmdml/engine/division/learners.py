"""Learners of a running model: more of them, and their union, with the optimizer's moments in step."""

from collections.abc import Iterable

from mmengine.optim import OptimWrapperDict
from torch import nn

from mmdml.engine.model_of import model_of


def grow_learners(runner, num_active: int) -> None:
    """Use more learners: children start as copies of their parents, without the optimizer's moments."""
    model = model_of(runner)
    before = model.neck.num_active
    if num_active > before:
        forget_moments(runner, [*model.neck.divide(num_active), *model.head.divide(before, num_active)])


def join_learners(runner) -> None:
    """Give the merged embedding's loss the mean of what its learners learned."""
    model = model_of(runner)
    if model.neck.num_active > 1:
        forget_moments(runner, model.head.join(model.neck.num_active))


def forget_moments(runner, parameters: Iterable[nn.Parameter]) -> None:
    """Start the optimizer's moments of some parameters anew."""
    wrapper = runner.optim_wrapper
    wrappers = list(wrapper.values()) if isinstance(wrapper, OptimWrapperDict) else [wrapper]
    for parameter in parameters:
        for each in wrappers:
            each.optimizer.state.pop(parameter, None)
