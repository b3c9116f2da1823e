"""Midpoints of two images of a class as further candidates."""

import torch

from mmdml.models.generators import Generator
from mmdml.registry import MODELS
from mmdml.structures import Rows, StepContext


@MODELS.register_module()
class MidpointGenerator(Generator):
    """For every real row, the midpoint between it and the nearest other row of its class.

    The simplest form of embedding expansion (Ko and Gu, CVPR 2020): rows between two images of a class are likely of
    that class. A midpoint carries the views of both parents, so it is no positive of either, but one of the other rows
    of the class, and a negative of all others. Rows alone in their class have no midpoint.

    Args:
        start: training before the first midpoints, in epochs (int) or as a fraction of the run (float in [0, 1]).

    Raises:
        ValueError: if ``start`` is negative.

    Config::

        head=dict(sources=dict(midpoints=dict(type='MidpointGenerator', start=1)))
    """

    def __init__(self, start: int | float = 0) -> None:
        super().__init__()
        if start < 0:
            raise ValueError(f'start must be 0 or more, got {start}')
        self.start = start

    def forward(self, anchors: Rows, step: StepContext) -> Rows | None:
        """``R`` raw real rows -> at most ``R`` raw midpoints, through which gradient reaches both parents."""
        if step.progress.iter < step.progress.iterations(self.start):
            return None
        same = anchors.labels[:, None] == anchors.labels[None, :]
        same.fill_diagonal_(False)
        first = same.any(1).nonzero().squeeze(1)
        distance = torch.cdist(anchors.embeddings.detach(), anchors.embeddings.detach())
        second = distance.masked_fill(~same, float('inf'))[first].argmin(1)
        midpoints = (anchors.embeddings[first] + anchors.embeddings[second]) / 2
        views = torch.cat([anchors.views[first], anchors.views[second]], dim=1)
        return Rows(midpoints, anchors.labels[first], views)
