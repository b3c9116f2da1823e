"""Scores by products in fp64, for the rows of a search in which fp32 leaves many pairs open; and equal rows."""

import torch
from torch import Tensor

from mmdml.utils.seeding import Stream, torch_generator

from .distances import CosineSpace, DotSpace, EuclideanSpace, HyperbolicSpace
from .space import FEW_ROUNDINGS, PAIR_ENTRIES, ROWS_AT_ONCE, WINDOW, Space

# Pairs of a query that are worth a product of their own.
_LONG_RUN = 16


def _cosine_terms(space: Space, rows: Tensor) -> tuple[Tensor, Tensor]:
    norms = torch.linalg.vector_norm(rows, dim=1)
    return torch.where(norms > 0, 1 / norms, 0), torch.zeros_like(norms)


def _dot_terms(space: Space, rows: Tensor) -> tuple[Tensor, Tensor]:
    factors = torch.full_like(rows[:, 0], space.scale)
    return factors, torch.zeros_like(factors)


def _euclidean_terms(space: Space, rows: Tensor) -> tuple[Tensor, Tensor]:
    # q.center is one number for all rows.
    return torch.full_like(rows[:, 0], space.scale), space.gallery_rows(rows)[:, -1]


def _hyperbolic_terms(space: Space, rows: Tensor) -> tuple[Tensor, Tensor]:
    factors = 1 / (1 - rows.square().sum(1))
    return factors, -factors


def _length(rows: Tensor, longest: Tensor) -> Tensor:
    return torch.linalg.vector_norm(rows, dim=1, keepdim=True) * longest


def _euclidean_length(rows: Tensor, longest: Tensor) -> Tensor:
    # Scaled entries are at most 1, so that no row is longer than sqrt(D); the offset is half a square.
    norms = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    return norms * rows.shape[1] ** 0.5 + longest.square() / 2


def _hyperbolic_length(rows: Tensor, longest: Tensor) -> Tensor:
    # As of the space: factors are at most 1 + longest, by which they err more.
    return (torch.linalg.vector_norm(rows, dim=1, keepdim=True) * longest + 1 + longest) * (1 + longest)


# Factors and offsets of given rows in fp64, ``(N,)`` each, that turn their products with queries into scores.
_TERMS = {
    CosineSpace: _cosine_terms,
    DotSpace: _dot_terms,
    EuclideanSpace: _euclidean_terms,
    HyperbolicSpace: _hyperbolic_terms,
}
# Bounds ``(Q, 1)`` of the partial sums of those scores.
_LENGTHS = {EuclideanSpace: _euclidean_length, HyperbolicSpace: _hyperbolic_length}


class DoubleScores:
    """Scores of a space by products of the given rows in fp64: no gallery is kept in fp64.

    Args:
        space: of fp32 rows.
    """

    def __init__(self, space: Space) -> None:
        self.space = space
        both = [_TERMS[type(space)](space, part.double()) for part in space.given.split(ROWS_AT_ONCE)]
        self.factor, self.offset = (torch.cat(parts) for parts in zip(*both, strict=True))

    def directions(self, given: Tensor) -> tuple[Tensor, Tensor]:
        """``(Q, D)`` fp32 queries -> ``(Q, D)`` fp64 for the scores, and their ``(Q, 1)`` window, as in `Space`."""
        rows = self.space.query_rows(given.double())[:, : given.shape[1]]
        length = _LENGTHS.get(type(self.space), _length)(rows, self.space.longest.double())
        roundings = WINDOW * (given.shape[1] ** 0.5 + 2 * FEW_ROUNDINGS) * torch.finfo(torch.float64).eps / 2
        return rows.contiguous(), roundings * length

    def put(self, directions: Tensor, scores: Tensor) -> None:
        """Put the scores of all gallery rows into the first columns of ``scores (Q, L)``, in fp64."""
        start = 0
        for part in self.space.given.split(ROWS_AT_ONCE):
            own = slice(start, start + len(part))
            scores[:, own] = torch.mm(directions, part.double().t()).mul_(self.factor[own]).add_(self.offset[own])
            start = own.stop

    def pairs(self, directions: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        """``(n,)`` the same scores of some pairs, ``rows (n,)`` rising; each rounded in its own way."""
        given = self.space.given
        used, count = torch.unique_consecutive(rows, return_counts=True)
        found = []
        if rows.device.type == 'cpu' and len(rows) > _LONG_RUN * len(used):
            for row, own in zip(used.tolist(), columns.split(count.tolist()), strict=True):
                found.append(given.index_select(0, own).double() @ directions[row])
        else:
            at_once = max(1, PAIR_ENTRIES // directions.shape[1])
            for row, own in zip(rows.split(at_once), columns.split(at_once), strict=True):
                found.append((given.index_select(0, own).double() * directions.index_select(0, row)).sum(1))
        return torch.cat(found).mul_(self.factor[columns]).add_(self.offset[columns])


def distinct_rows(rows: Tensor) -> tuple[Tensor, Tensor]:
    """``(d,)`` rows of which no two are equal, and ``(N,)`` which of them each row is equal to."""
    bits = torch.int64 if rows.dtype == torch.float64 else torch.int32
    random = torch_generator(Stream.ROW_HASH, 0)
    factors = torch.randint(2**62, (rows.shape[1],), generator=random).to(rows.device) | 1
    # Sums modulo 2^64 of the bits; + 0: -0 is equal to 0.
    sums = [((part + 0.0).view(bits) * factors).sum(1) for part in rows.split(ROWS_AT_ONCE)]
    codes = torch.unique(torch.cat(sums), return_inverse=True)[1]
    numbers = torch.arange(len(codes), device=codes.device)
    first = torch.full_like(numbers, len(codes)).scatter_reduce_(0, codes, numbers, 'amin')[codes]
    equal = [(rows[part] == rows[first[part]]).all(1) for part in numbers.split(ROWS_AT_ONCE)]
    # Rows whose sums agree by chance count as distinct.
    return torch.unique(numbers.where(~torch.cat(equal), first), return_inverse=True)
