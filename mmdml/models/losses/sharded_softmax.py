"""Softmax over classes that are divided among the ranks: sums and cross entropy with the gradients of one process."""

from typing import Any

import torch
from torch import Tensor

from mmdml.dist import all_reduce


class _SumOverRanks(torch.autograd.Function):
    """Sum a tensor over the ranks; the backward pass leaves each rank its own gradient."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        total = value.clone()
        all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient


def sum_over_ranks(value: Tensor) -> Tensor:
    """Sum a term that each rank computes from parameters of its own; gradient reaches these alone."""
    return _SumOverRanks.apply(value)


class _ScaledGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient * ctx.factor, None


def scale_gradient(value: Tensor, factor: float) -> Tensor:
    """Return the same values, whose gradient is multiplied on its way back.

    Where each rank computes a part of the gradient of gathered rows, the number of ranks as the factor restores what
    DistributedDataParallel divides by.
    """
    return _ScaledGradient.apply(value, factor)


class _CrossEntropyOverRanks(torch.autograd.Function):
    """Cross entropy of logits whose columns are divided among the ranks; nothing is sent in the backward pass."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, target: Tensor, inside: Tensor) -> Tensor:
        highest = logits.amax(1)
        all_reduce(highest, 'MAX')
        own = logits.gather(1, target[:, None]).squeeze(1).masked_fill(~inside, 0)
        shares = (logits - highest[:, None]).exp_()
        sums = torch.stack([shares.sum(1), own])
        all_reduce(sums)
        total, own = sums
        shares /= total[:, None]
        ctx.save_for_backward(shares, target, inside)
        return total.log() + highest - own

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        shares, target, inside = ctx.saved_tensors
        change = shares.scatter_add(1, target[:, None], -inside[:, None].to(shares))
        return change * gradient[:, None], None, None


def cross_entropy_over_ranks(logits: Tensor, target: Tensor, inside: Tensor) -> Tensor:
    """Cross entropy of each row, of classes that are divided among the ranks; the same value on all.

    The gradient of each rank's logits is exact; that of what they were made of is the rank's part.

    Args:
        logits: ``(R, C_r)`` of the same rows on all ranks and the rank's own classes.
        target: ``(R,)`` column of the row's class, any valid one where the class is of another rank.
        inside: ``(R,)`` bool, whether the row's class is one of this rank's.
    """
    return _CrossEntropyOverRanks.apply(logits, target, inside)
