"""What several losses over pairs compute: sums of exponentials, means of terms, and counts of nearer candidates."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import threshold_
from torch.utils.checkpoint import checkpoint

#: Entries of a (pairs, X) matrix up to which it is kept for the backward pass; longer ones go by blocks, each computed
#: again there, so that memory does not grow with the number of pairs times the number of candidates.
BLOCK_ENTRIES = 2**23


class _LogSumExp(torch.autograd.Function):
    """See :func:`log_sum_exp`; of all matrices on the way only the gradient is kept."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, weight: Tensor, dim: int, plus_one: bool) -> Tensor:
        shift = logits.masked_fill(weight == 0, float('-inf')).amax(dim, keepdim=True)
        shift = shift.clamp_min_(0) if plus_one else shift.masked_fill_(shift == float('-inf'), 0)
        # Entries of weight 0 may be larger than the shift. Numbers below the smallest normal one are slow: near it they
        # become 0, which they are beside the largest.
        lowest = 0.8 * math.log(torch.finfo(logits.dtype).tiny)
        shares = threshold_((logits - shift).clamp_(lowest, 0).exp_(), 2 * math.exp(lowest), 0).mul_(weight)
        total = shares.sum(dim, keepdim=True)
        value = shift + (torch.log1p(torch.expm1(-shift) + total) if plus_one else total.log())
        if plus_one:
            total += torch.exp(-shift)
        ctx.save_for_backward(shares.div_(total.masked_fill_(total == 0, 1)))
        ctx.dim = dim
        return value.squeeze(dim)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        (shares,) = ctx.saved_tensors
        return shares * gradient.unsqueeze(ctx.dim), None, None, None


def log_sum_exp(logits: Tensor, weight: Tensor, dim: int = 1, plus_one: bool = False) -> Tensor:
    r"""Logarithm of a weighted sum of exponentials, :math:`\ln \sum_x w_x e^{l_x}`, without overflow.

    It is -inf with a gradient of 0 where all weights are 0, or there are none.

    Args:
        logits: a matrix.
        weight: of the same shape, 0 or more; no gradient flows to it.
        dim: what to sum over.
        plus_one: :math:`\ln (1 + \sum_x w_x e^{l_x})`, which is 0 for a sum of nothing.
    """
    if logits.shape[dim] == 0:
        return logits.sum(dim) if plus_one else logits.sum(dim) - float('inf')
    return _LogSumExp.apply(logits, weight, dim, plus_one)


def weighted_mean(terms: Tensor, weight: Tensor) -> Tensor:
    """Sum of terms times weights, divided by the sum of the weights; 0 where that is 0. Both of one shape."""
    total = weight.sum()
    return (terms * weight).sum() / torch.where(total > 0, total, 1)


def mean_of_hinges(terms: Tensor, weight: Tensor) -> Tensor:
    """Weighted mean of the terms above 0; 0 where there is none. Both of one shape."""
    return weighted_mean(terms, weight * (terms > 0))


class PositivePairs(NamedTuple):
    """The positive pairs of a batch, one entry each.

    Attributes:
        anchor: ``(P,)`` rows of the matrix of weights.
        candidate: ``(P,)`` columns.
        weight: ``(P,)``, above 0.
    """

    anchor: Tensor
    candidate: Tensor
    weight: Tensor

    @property
    def numbers(self) -> Tensor:
        """``(P,)`` 0 to P - 1."""
        return torch.arange(len(self.anchor), device=self.anchor.device)


def positive_pairs(positive: Tensor) -> PositivePairs:
    """List the positive pairs, row by row, once for a loss: the host waits for their number.

    Args:
        positive: ``(A, X)`` weights.
    """
    anchor, candidate = (positive > 0).nonzero(as_tuple=True)
    return PositivePairs(anchor, candidate, positive[anchor, candidate])


def mean_of_positive_pairs(terms: Callable[[Tensor], Tensor], found: PositivePairs, width: int) -> Tensor:
    """Weighted mean of a term of each positive pair whose computation needs a row of entries.

    Args:
        terms: from the numbers ``(P',)`` of some positive pairs to their terms.
        found: all positive pairs.
        width: entries of a row.
    """
    return weighted_mean(in_blocks(terms, found.numbers, width), found.weight)


def in_blocks(function: Callable[[Tensor], Tensor], rows: Tensor, width: int) -> Tensor:
    """Join a function's results for blocks of rows, in memory for one block of about :data:`BLOCK_ENTRIES` entries.

    Args:
        function: from row numbers ``(R',)`` to a tensor with as many rows.
        rows: ``(R,)`` row numbers.
        width: entries that the function computes for a row.
    """
    blocks = rows.split(max(1, BLOCK_ENTRIES // max(1, width)))
    if len(blocks) == 1:
        return function(rows)
    return torch.cat([checkpoint(function, block, use_reentrant=False) for block in blocks])


def count_above(
    similarity: Tensor,
    positive: Tensor,
    negative: Tensor,
    found: PositivePairs,
    positive_step: Callable[[Tensor], Tensor],
    negative_step: Callable[[Tensor], Tensor],
) -> Tensor:
    r"""Count the candidates that are nearer to an anchor than its positive is, by steps that may be smooth.

    For every positive pair (i, j) the two sums

    .. math:: \sum_{k \neq j} w^+_{ik} H^+(s_{ik} - s_{ij}), \qquad \sum_k w^-_{ik} H^-(s_{ik} - s_{ij})

    Args:
        similarity: ``(A, X)``.
        positive: ``(A, X)`` weights :math:`w^+`.
        negative: ``(A, X)`` weights :math:`w^-`.
        found: the positive pairs.
        positive_step: :math:`H^+`, elementwise.
        negative_step: :math:`H^-`, elementwise.

    Returns:
        ``(P, 2)``.
    """
    anchor, candidate, _ = found
    at_zero = positive_step(similarity.new_zeros(()))

    def count(block: Tensor) -> Tensor:
        row, column = anchor[block], candidate[block, None]
        among = similarity.index_select(0, row)
        difference = among - among.gather(1, column)
        weight = positive.index_select(0, row)
        nearer = (positive_step(difference) * weight).sum(1) - at_zero * weight.gather(1, column).squeeze(1)
        wrong = (negative_step(difference) * negative.index_select(0, row)).sum(1)
        return torch.stack([nearer, wrong], dim=1)

    return in_blocks(count, found.numbers, similarity.shape[1])


def mean_per_anchor(values: Tensor, positive: Tensor, found: PositivePairs) -> tuple[Tensor, Tensor]:
    """Average the values of each anchor's positive pairs.

    Args:
        values: ``(P,)``.
        positive: ``(A, X)`` weights.
        found: the positive pairs.

    Returns:
        ``(A,)`` weighted means, and ``(A,)`` bool: which anchors have a positive; the others have 0.
    """
    sums = values.new_zeros(len(positive)).index_add(0, found.anchor, values * found.weight)
    total = positive.sum(1)
    return sums / total.masked_fill(total == 0, 1.0), total > 0
