"""Embedding expansion."""

import torch

from mmdml.registry import MODELS
from mmdml.structures import Rows, StepContext
from mmdml.utils.numbers import check_counts

from .base import Generator
from .rows import directions, pairs_of_one_class, views_of_parents


@MODELS.register_module()
class EmbeddingExpansion(Generator):
    r"""Points that divide the segment between two rows of a class, as further candidates.

    Ko and Gu, *Embedding Expansion: Augmentation in Embedding Space for Deep Metric Learning*, CVPR 2020, equation 1.
    With the unit rows u of two images of a class, for :math:`k = 1 \dots n`,

    .. math:: \bar u^k = \frac{(n + 1 - k) u_i + k u_j}{n + 1}

    of every pair of a class; normalization follows with all other rows. The points are as long as their parents, by
    the same shares. In the paper the hardest negative is sought among the points of both sides, and positives are
    real; here anchors are real, and the points are candidates.

    Args:
        num_points: n, at least 1; 2 in the authors' commands.
        positives: take points as positives of the class's other rows, too. The paper does not.

    Raises:
        ValueError: if ``num_points`` is below 1.

    Config::

        head=dict(sources=dict(expansion=dict(type='EmbeddingExpansion', num_points=2)))
    """

    def __init__(self, num_points: int = 2, positives: bool = False) -> None:
        super().__init__()
        check_counts(num_points=num_points)
        self.num_points = num_points
        self.positives = positives

    def forward(self, anchors: Rows, step: StepContext) -> Rows | None:
        """``R`` real rows with P pairs of one class -> ``n * P`` points, point-major; None without a pair.

        Args:
            anchors: real rows.
            step: the learner decides which lengths count.
        """
        first, second = pairs_of_one_class(anchors.labels)
        if not len(first):
            return None
        unit, length = directions(anchors, step)
        shares = [1 - k / (self.num_points + 1) for k in range(1, self.num_points + 1)]
        points = [
            (share * unit[first] + (1 - share) * unit[second]) * (share * length[first] + (1 - share) * length[second])
            for share in shares
        ]
        views = views_of_parents(anchors, first, second, not self.positives)
        labels = anchors.labels[first]
        labels, views = labels.repeat(self.num_points), views.repeat(self.num_points, 1)
        return Rows(torch.cat(points), labels, views, num_parents=torch.full_like(labels, 2))
