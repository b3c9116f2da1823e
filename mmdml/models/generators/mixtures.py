"""Rows that are mixed from two classes."""

import numpy as np
import torch
from torch import Tensor

from mmdml.structures import Progress, Rows, StepContext
from mmdml.utils.seeding import Stream, numpy_generator

from .rows import directions


def mixture_random(progress: Progress) -> np.random.Generator:
    """Return what a step draws partners and shares from: the same on all ranks that share their rows."""
    return numpy_generator(Stream.MIXTURES, progress.seed, progress.iter, progress.rank)


def mix(anchors: Rows, first: Tensor, second: Tensor, share: Tensor, step: StepContext) -> Rows:
    r"""Mix directions and lengths of two rows: :math:`\lambda u_i + (1 - \lambda) u_j`, which belongs to both classes.

    Args:
        anchors: real rows.
        first: ``(M,)`` rows i.
        second: ``(M,)`` rows j.
        share: ``(M,)`` lambda in [0, 1].
        step: the learner decides which lengths count.

    Returns:
        ``(M, D)`` rows with the views of both parents.
    """
    unit, length = directions(anchors, step)
    own = share[:, None].to(unit)
    mixed = (own * unit[first] + (1 - own) * unit[second]) * (own * length[first] + (1 - own) * length[second])
    views = torch.stack([anchors.views[first, 0], anchors.views[second, 0]], 1)
    return Rows(mixed, anchors.labels[first], views, None, anchors.labels[second], share)
