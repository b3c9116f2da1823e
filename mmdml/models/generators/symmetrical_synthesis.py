"""Symmetrical synthesis."""

import torch

from mmdml.registry import MODELS
from mmdml.structures import Rows, StepContext

from .base import Generator
from .rows import directions, pairs_of_one_class, scale_of, views_of_parents


@MODELS.register_module()
class SymmetricalSynthesis(Generator):
    r"""Reflections of each row about the other rows of its class, as further candidates.

    Gu and Ko, *Symmetrical Synthesis for Deep Metric Learning*, AAAI 2020, equations 3 to 5, with the factors 2 and 1
    of the authors' code. With the unit rows u of two images of a class,

    .. math:: u_i' = 2 (u_i^T u_j) u_j - u_i

    and likewise :math:`u_j'`, of every pair of a class: as far from the axis as its parent, on the other side. The
    reflections are as long as the row they mirror. In the paper they are negatives of other classes that are harder
    than the real ones; here anchors are real, and the reflections are candidates.

    Args:
        positives: take reflections as positives of the class's other rows, too.

    Config::

        head=dict(sources=dict(symmetrical=dict(type='SymmetricalSynthesis')))
    """

    def __init__(self, positives: bool = False) -> None:
        super().__init__()
        self.positives = positives

    def forward(self, anchors: Rows, step: StepContext) -> Rows | None:
        """``R`` real rows with P pairs of one class -> ``2 P`` reflections; None without a pair.

        Args:
            anchors: real rows.
            step: the learner decides which neurons count in products.
        """
        first, second = pairs_of_one_class(anchors.labels)
        if not len(first):
            return None
        unit, length = directions(anchors, step)
        mirrored, axis = torch.cat([first, second]), torch.cat([second, first])
        cosine = (unit[mirrored] * unit[axis] * scale_of(unit, step).square()).sum(1, keepdim=True)
        reflections = (2 * cosine * unit[axis] - unit[mirrored]) * length[mirrored]
        views = views_of_parents(anchors, mirrored, axis, not self.positives)
        labels = anchors.labels[mirrored]
        return Rows(reflections, labels, views, num_parents=torch.full_like(labels, 2))
