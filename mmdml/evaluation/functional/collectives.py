"""What ranks tell each other, by torch.distributed alone; a single process has nobody to ask."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

# Where a backend wants its tensors; others take them where they are.
_DEVICES = {'nccl': 'cuda', 'gloo': 'cpu'}


def _together() -> bool:
    return dist.is_available() and dist.is_initialized()


def get_world_size() -> int:
    """Number of ranks."""
    return dist.get_world_size() if _together() else 1


def get_rank() -> int:
    """Number of this rank."""
    return dist.get_rank() if _together() else 0


def _carried(tensor: Tensor) -> Tensor:
    return tensor.to(_DEVICES.get(dist.get_backend(), tensor.device)).contiguous()


def all_gather(tensor: Tensor) -> list[Tensor]:
    """The tensors of all ranks, which are of one shape."""
    if not _together():
        return [tensor]
    sent = _carried(tensor)
    found = [torch.empty_like(sent) for _ in range(get_world_size())]
    dist.all_gather(found, sent)
    return [other.to(tensor.device) for other in found]


def all_gather_object(value: Any) -> list[Any]:
    """The objects of all ranks; they are pickled."""
    found = [value] * get_world_size()
    if _together():
        dist.all_gather_object(found, value)
    return found


def all_reduce(tensor: Tensor, op: str = 'SUM') -> None:
    """Put the 'SUM' or 'MAX' over all ranks into the tensor."""
    if _together():
        sent = _carried(tensor)
        dist.all_reduce(sent, getattr(dist.ReduceOp, op))
        if sent is not tensor:
            tensor.copy_(sent)


def broadcast(tensor: Tensor, source: int) -> None:
    """Put what one rank has into the tensor of all."""
    if _together():
        sent = _carried(tensor)
        dist.broadcast(sent, source)
        if sent is not tensor:
            tensor.copy_(sent)


def gather_rows(rows: Tensor) -> Tensor:
    """``(N_r, ...)`` rows of every rank, unequally many -> all of them in order of the ranks."""
    if not _together():
        return rows
    counts = [int(count) for count in all_gather(torch.tensor([len(rows)]))]
    padded = rows.new_zeros(max(counts), *rows.shape[1:])
    padded[: len(rows)] = rows
    return torch.cat([found[:count] for found, count in zip(all_gather(padded), counts, strict=True)])
