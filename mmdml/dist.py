"""Rows of all ranks, with gradient."""

from typing import Any

import torch
import torch.distributed as dist
from mmengine.dist import get_dist_info
from torch import Tensor

from mmdml.structures import Rows


class _GatherWithGradient(torch.autograd.Function):
    """Concatenate the ranks' rows; the backward pass sums what every rank's loss says about one's own rows.

    DistributedDataParallel then averages parameter gradients over the ranks. With W ranks that all compute the global
    loss, the sum here is W times its gradient and the average restores it: the update equals that of one process on
    the whole batch (pytorch-metric-learning#363).
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        ctx.start = dist.get_rank() * len(rows)
        ctx.length = len(rows)
        return _concatenate(rows)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        gradient = gradient.contiguous()
        dist.all_reduce(gradient)
        return gradient[ctx.start : ctx.start + ctx.length]


def _concatenate(tensor: Tensor) -> Tensor:
    parts = [torch.empty_like(tensor) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, tensor.contiguous())
    return torch.cat(parts)


def gather_rows(rows: Rows) -> Rows:
    """All ranks' rows in rank order, the same on every rank; gradient reaches the rank that a row came from.

    Every rank must hold the same number of rows, which ``PKSampler`` guarantees. View ids are numbered anew over the
    global batch. With one process the rows come back as they are.

    Args:
        rows: real rows of this rank, one view each.
    """
    if get_dist_info()[1] == 1:
        return rows
    return Rows.of_batch(
        _GatherWithGradient.apply(rows.embeddings), _concatenate(rows.labels), _concatenate(rows.indices)
    )


def gather_detached(rows: Rows) -> Rows:
    """All ranks' rows without gradient."""
    if get_dist_info()[1] == 1:
        return rows
    return Rows.of_batch(_concatenate(rows.embeddings.detach()), _concatenate(rows.labels), _concatenate(rows.indices))


def shard(length: int, rank: int, world_size: int) -> tuple[int, int]:
    """Start and stop of a rank's contiguous part; the first parts are longer by at most one."""
    size, extra = divmod(length, world_size)
    start = rank * size + min(rank, extra)
    return start, start + size + (rank < extra)
