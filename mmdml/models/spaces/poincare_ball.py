"""The Poincaré ball: hyperbolic distance."""

from typing import Any

import torch
from torch import Tensor

from mmdml.registry import TASK_UTILS
from mmdml.structures import Space
from mmdml.structures.checks import check_positive, require

#: Keeps the slope of the distance finite where two points meet.
_EPS = 1e-12


@TASK_UTILS.register_module()
class PoincareBall(Space):
    r"""Minus the hyperbolic distance of points in the unit ball, for any loss over pairs.

    Hyp-ViT: Ermolov et al., *Hyperbolic Vision Transformers*, CVPR 2022, equations 2 and 3, whose ball of curvature -c
    has the radius :math:`1 / \sqrt c`. Here points are multiplied by :math:`\sqrt c`, which
    :class:`~mmdml.models.HyperbolicEmbedding` does, so that the ball has the radius 1 for any c:

    .. math:: s(x, y) = -\frac{1}{\sqrt c} \operatorname{arcosh}
        \Big(1 + \frac{2 |x - y|^2}{(1 - |x|^2) (1 - |y|^2)}\Big)

    which equals the paper's distance by Möbius addition. The scale of distances matters to temperatures and margins of
    the loss, not to the order of neighbors, so that evaluation by ``distance='hyperbolic'`` needs no c.

    Args:
        curvature: c > 0, that of the neck; 0.1 in the paper.

    Raises:
        ValueError: if ``curvature`` is not positive, for a neck without points in the ball or of another curvature, or
            for points outside the ball (on an accelerator: see :func:`~mmdml.structures.checks.require`).

    Config::

        model=dict(
            neck=dict(type='HyperbolicEmbedding', in_channels=384, embed_dim=128),
            head=dict(loss=dict(type='NTXentLoss', temperature=0.2), space=dict(type='PoincareBall')))
    """

    def __init__(self, curvature: float = 0.1) -> None:
        check_positive(curvature=curvature)
        self.curvature = curvature

    def bind(self, neck: Any) -> None:
        """Check that the neck gives points of this ball."""
        found = getattr(neck, 'curvature', None)
        if found is None:
            name = type(neck).__name__
            raise ValueError(
                f'PoincareBall takes points of the unit ball: the neck must be HyperbolicEmbedding, not {name}'
            )
        if found != self.curvature:
            raise ValueError(f'neck.curvature is {found}, but that of the space is {self.curvature}: they must agree')

    def similarity(self, anchors: Tensor, candidates: Tensor) -> Tensor:
        """Compare points of the unit ball, ``(A, D)`` and ``(X, D)`` -> ``(A, X)``, at most 0."""
        first, second = anchors.square().sum(1), candidates.square().sum(1)
        longest = torch.cat([first, second]).detach()
        text = 'PoincareBall takes points inside the unit ball, of squared length below 1'
        require((longest < 1).all(), text, lambda: longest.max().item())
        apart = (first[:, None] + second[None, :] - 2 * anchors @ candidates.t()).relu()
        t = 2 * apart / ((1 - first)[:, None] * (1 - second)[None, :])
        # arcosh(1 + t).
        return -torch.log1p(t + (t * (t + 2) + _EPS).sqrt()) / self.curvature**0.5

    def distance(self, similarity: Tensor, eps: float = 0.0) -> Tensor:
        """Hyperbolic distance that belongs to a similarity; any shape."""
        return -similarity
