"""What several generators compute of the real rows: directions in the space of the learner, and pairs of one class."""

import torch
from torch import Tensor

from mmdml.structures import Rows, StepContext
from mmdml.structures.rows import divisor_of


def directions(anchors: Rows, step: StepContext) -> tuple[Tensor, Tensor]:
    """Return raw rows divided by their length in the space of the learner, and these lengths.

    Returns:
        ``(R, D)`` and ``(R, 1)``, fp32 or better. A learner sees ``scale * z``: neurons of factor 0 do not count. Where
        several slices are active and the whole embedding is trained, rows are taken whole here, while the loss sees
        each slice at length 1: directions are then those of the loss as far as the slices are equally long.
    """
    raw = anchors.embeddings if anchors.embeddings.dtype.itemsize >= 4 else anchors.embeddings.float()
    length = (raw * scale_of(raw, step)).norm(dim=1, keepdim=True)
    return raw / divisor_of(length), length


def scale_of(raw: Tensor, step: StepContext) -> Tensor:
    """``(D,)`` factors of the learner that the step trains, ones for the whole embedding."""
    return raw.new_ones(raw.shape[1]) if step.learner is None else step.learner.scale.to(raw)


def pairs_of_one_class(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the two rows of every pair of one class, ``(P,)`` each, the first one before the second."""
    first, second = (labels[:, None] == labels[None, :]).triu(1).nonzero(as_tuple=True)
    return first, second


def views_of_parents(anchors: Rows, first: Tensor, second: Tensor, only_negatives: bool) -> Tensor:
    """Return the views of rows that were made of two anchors of one class.

    Args:
        anchors: real rows.
        first: ``(P,)`` the one parent.
        second: ``(P,)`` the other.
        only_negatives: have the views of all anchors of the class, beside those of the parents: there is no pair then
            with any row of the class.

    Returns:
        ``(P, V)``.
    """
    parents = torch.stack([anchors.views[first, 0], anchors.views[second, 0]], 1)
    if not only_negatives:
        return parents
    same = anchors.labels[first][:, None] == anchors.labels[None, :]
    members = torch.where(same, anchors.views[:, 0], -1).sort(1, descending=True).values
    return torch.cat([parents, members[:, : int(same.sum(1).max())] if len(same) else members[:, :0]], 1)
