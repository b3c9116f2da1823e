"""The only file in which ranks communicate; a single process goes through it unchanged."""

import pickle
import traceback
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from mmdml.structures import Rows
from mmdml.structures.checks import require

T = TypeVar('T')

# Where a backend takes its tensors; others take them on any device.
_DEVICES = {'nccl': 'cuda', 'gloo': 'cpu'}


def is_distributed() -> bool:
    """Whether there is a group of ranks, of one or more."""
    return dist.is_available() and dist.is_initialized()


def get_world_size() -> int:
    """Return the number of ranks."""
    return dist.get_world_size() if is_distributed() else 1


def get_rank() -> int:
    """Return the number of this rank."""
    return dist.get_rank() if is_distributed() else 0


def is_main_process() -> bool:
    """Whether this is rank 0."""
    return get_rank() == 0


def shard(length: int, rank: int, world_size: int) -> tuple[int, int]:
    """Start and stop of a rank's contiguous part; the first parts are longer by at most one."""
    size, extra = divmod(length, world_size)
    start = rank * size + min(rank, extra)
    return start, start + size + (rank < extra)


def all_gather(tensor: Tensor) -> list[Tensor]:
    """Gather the tensors of all ranks, which are of one shape, in rank order."""
    if not is_distributed():
        return [tensor]
    sent = _carried(tensor)
    found = [torch.empty_like(sent) for _ in range(get_world_size())]
    dist.all_gather(found, sent)
    return [other.to(tensor.device) for other in found]


def all_gather_object(value: Any) -> list[Any]:
    """Gather the objects of all ranks, by pickle, in rank order."""
    found = [value] * get_world_size()
    if is_distributed():
        dist.all_gather_object(found, value)
    return found


def all_reduce(tensor: Tensor, op: str = 'SUM') -> None:
    """Replace the tensor by the 'SUM', 'MIN' or 'MAX' over all ranks."""
    if is_distributed():
        sent = _carried(tensor)
        dist.all_reduce(sent, getattr(dist.ReduceOp, op))
        if sent is not tensor:
            tensor.copy_(sent)


def average(tensors: Sequence[Tensor]) -> None:
    """Replace tensors of one floating type by their means over all ranks, in one message."""
    if not is_distributed() or not tensors:
        return
    flat = torch.cat([tensor.flatten() for tensor in tensors])
    all_reduce(flat)
    flat /= get_world_size()
    for tensor, mean in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(mean.view_as(tensor))


def broadcast(tensor: Tensor, source: int = 0) -> None:
    """Replace the tensor of every rank by that of one."""
    if is_distributed():
        sent = _carried(tensor)
        dist.broadcast(sent, source)
        if sent is not tensor:
            tensor.copy_(sent)


def broadcast_object(value: Any) -> Any:
    """Return rank 0's object on all ranks, by pickle."""
    values = [value]
    if is_distributed():
        dist.broadcast_object_list(values, src=0)
    return values[0]


def shared_random_seed() -> int:
    """Draw a seed in 0..2^31-1 from rank 0's global numpy generator, the same on all ranks."""
    return broadcast_object(int(np.random.randint(2**31)))


def gather_uneven(rows: Tensor, to: str | None = None, block: int = 65_536) -> Tensor:
    """``(N_r, ...)`` rows of every rank, unequally many -> all of them in rank order, without gradient.

    Args:
        rows: of this rank.
        to: device of the result. Default: that of the rows.
        block: rows of a rank that are sent at once, which bounds the memory on the device.
    """
    device = rows.device if to is None else torch.device(to)
    if not is_distributed():
        return rows.to(device)
    counts = [int(count) for count in all_gather(torch.tensor([len(rows)]))]
    parts: list[list[Tensor]] = [[] for _ in counts]
    for start in range(0, max(counts), block):
        padded = rows.new_zeros(min(block, max(counts) - start), *rows.shape[1:])
        own = rows[start : start + block]
        padded[: len(own)] = own
        for part, found, count in zip(parts, all_gather(padded), counts, strict=True):
            part.append(found[: max(count - start, 0)].to(device))
    return torch.cat([each for part in parts for each in part])


class _RankZeroTraceback(Exception):
    """The traceback of rank 0 as text: the cause of an error that is raised on another rank."""

    def __str__(self) -> str:
        return f'\n\nTraceback of rank 0:\n{self.args[0]}'


def on_main_process(function: Callable[[], T]) -> T:
    """Call a function on rank 0 and return its result on all ranks; an error there is raised on all.

    Every rank raises the original type, where it can be pickled, else a ``RuntimeError`` that names it. Rank 0 has the
    original traceback, the others its text as the cause. In a single process this is a plain call.

    Args:
        function: takes nothing, returns what can be pickled, and must not communicate itself.
    """
    if get_world_size() == 1:
        return function()
    outcome, error = None, None
    if is_main_process():
        try:
            outcome = pickle.dumps((function(), None, ''))
        except Exception as caught:
            error = caught
            outcome = pickle.dumps((None, _portable(caught), traceback.format_exc()))
    outcome = broadcast_object(outcome)
    if error is not None:
        raise error
    result, error, text = pickle.loads(outcome)
    if error is not None:
        raise error from _RankZeroTraceback(text)
    return result


def _portable(error: Exception) -> Exception:
    """Return the error itself if it survives pickling, which not every exception does."""
    try:
        copy = pickle.loads(pickle.dumps(error))
        if type(copy) is type(error) and str(copy) == str(error):
            return error
    except Exception:
        pass
    return RuntimeError(f'{type(error).__name__}: {error}')


class _GatherWithGradient(torch.autograd.Function):
    """Concatenate the ranks' rows; the backward pass sums the gradients of all ranks' losses for the own rows.

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
        # A copy: autograd may use the gradient it passes here elsewhere, too.
        gradient = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(gradient)
        return gradient[ctx.start : ctx.start + ctx.length]


def _concatenate(tensor: Tensor) -> Tensor:
    parts = [torch.empty_like(tensor) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, tensor.contiguous())
    return torch.cat(parts)


def gather_rows(rows: Rows) -> Rows:
    """Gather all ranks' rows in rank order, the same on every rank; gradient reaches the rank that a row came from.

    Every rank must hold the same number of rows, which ``PKSampler`` guarantees. View ids are numbered anew over the
    global batch. With one process the rows come back as they are.

    Args:
        rows: real rows of this rank, one view each.

    Raises:
        ValueError: if ranks have differently many rows (on an accelerator: see
            :func:`~mmdml.structures.checks.require`).
    """
    if get_world_size() == 1:
        return rows
    labels, indices = _gathered_identities(rows)
    return Rows.of_batch(_GatherWithGradient.apply(rows.embeddings), labels, indices)


def gather_detached(rows: Rows) -> Rows:
    """Gather all ranks' rows without gradient."""
    if get_world_size() == 1:
        return rows
    labels, indices = _gathered_identities(rows)
    return Rows.of_batch(_concatenate(rows.embeddings.detach()), labels, indices)


def _gathered_identities(rows: Rows) -> tuple[Tensor, Tensor]:
    """Labels and indices of all ranks in one message, behind one that finds ranks with another number of rows."""
    numbers = _concatenate(torch.tensor([len(rows)], device=rows.labels.device))
    text = 'all ranks must have equally many rows in a step, which PKSampler guarantees'
    require((numbers == numbers[0]).all(), text, numbers.tolist)
    return _concatenate(torch.stack([rows.labels, rows.indices], 1)).t().contiguous().unbind(0)


def _carried(tensor: Tensor) -> Tensor:
    return tensor.to(_DEVICES.get(dist.get_backend(), tensor.device)).contiguous()
