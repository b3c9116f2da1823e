"""What ranks have to do with each other: rows of all ranks, and work that one rank does for all."""

import traceback
from collections.abc import Callable
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from mmengine.dist import broadcast_object_list, get_dist_info
from torch import Tensor

from mmdml.structures import Rows

T = TypeVar('T')


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


def on_main_process(function: Callable[[], T]) -> T:
    """Call ``function`` on rank 0 and return its result on all ranks; if it raises there, all ranks raise.

    Rank 0 raises the error itself. The others raise a ``ValueError`` where it is one, and otherwise a
    ``RuntimeError``, with the traceback of rank 0 in the message.

    Args:
        function: takes nothing and returns what can be pickled. It must not talk to other ranks.
    """
    rank, world_size = get_dist_info()
    if world_size == 1:
        return function()
    outcome: list[Any] = [None, None]
    error = None
    if rank == 0:
        try:
            outcome[0] = function()
        except Exception as caught:
            error = caught
            outcome[1] = isinstance(caught, ValueError), str(caught), traceback.format_exc()
    broadcast_object_list(outcome)
    if error is not None:
        raise error
    if outcome[1] is not None:
        is_value_error, message, trace = outcome[1]
        raise ValueError(message) if is_value_error else RuntimeError(f'rank 0 failed: {message}\n{trace}')
    return outcome[0]
