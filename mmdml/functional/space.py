"""Scores as matrix products: how far rounding moves them, and what decides where it does."""

from collections.abc import Callable
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from mmdml.utils.seeding import Stream, torch_generator

# Rows that are prepared at once.
_ROWS = 2**12
# Entries of pairs that are scored at once: few enough for a cache.
_PAIR_ENTRIES = 2**18
# Pairs of a query that are worth a product of their own.
_LONG_RUN = 16
# See `Space`.
_WINDOW, _FEW_ROUNDINGS = 2, 4

#: Rows of this process -> rows of all that hold a part.
Gather = Callable[[Tensor], Tensor]


def alone(rows: Tensor) -> Tensor:
    """Return the rows of the only process."""
    return rows


class Queries(NamedTuple):
    """A block of queries.

    Attributes:
        given: ``(Q, D)`` as the user gave them, in fp32 or fp64.
        rows: ``(Q, D')`` for products with the rows of the gallery.
        window: ``(Q, 1)``; two scores of a query that differ by more are in the order of the exact scores.
    """

    given: Tensor
    rows: Tensor
    window: Tensor


class Space:
    r"""Scores that are products of prepared rows, higher is nearer; base of the distances.

    A product of D terms is rounded about D times, each time by at most u = 2^-24 (fp32; fp64: 2^-53) of a partial sum,
    and by Cauchy and Schwarz no partial sum exceeds |q| |g|. Roundings of either sign make a random walk (Higham and
    Mary, SIAM J. Sci. Comput. 2019), whose standard deviation is at most :math:`0.43 u \sqrt{D / 3} |q| |g|`, where all
    terms have one sign. The difference of two scores therefore errs by less than

    .. math::
        w = 2 u (\sqrt{D} + 4) |q| \max_g |g|

    but for 5.7 standard deviations in that worst case, and far less often for other rows; the 4 covers the roundings of
    the rows themselves, whose number does not grow with D. Scores that are closer than w are compared by :meth:`pairs`.
    All rows are scaled by powers of two first, which is exact: nothing over- or underflows.

    Args:
        query: ``(Q, D)``, of which only what concerns all rows is kept.
        gallery: ``(G, D)`` of the same type; a part of it, where several processes hold parts.
        gather: puts the rows of all processes together.
    """

    def __init__(self, query: Tensor, gallery: Tensor, gather: Gather = alone) -> None:
        self.given = gallery
        self._prepare(query, gallery, gather)
        if self._needs_no_copy():
            self.gallery = gallery
        else:
            width = self.gallery_rows(gallery[:0]).shape[1]
            self.gallery = gallery.new_empty(len(gallery), width)
            for own, part in zip(self.gallery.split(_ROWS), gallery.split(_ROWS), strict=True):
                own.copy_(self.gallery_rows(part))
        norms = torch.linalg.vector_norm(self.gallery[:, : gallery.shape[1]], dim=1, keepdim=True)
        self.longest = gather(norms).amax()

    def _prepare(self, query: Tensor, gallery: Tensor, gather: Gather) -> None:
        """Keep what the preparation of a row takes from all rows."""

    def _needs_no_copy(self) -> bool:
        return False

    def gallery_rows(self, rows: Tensor) -> Tensor:
        """``(N, D)`` -> ``(N, D')`` of the gallery, in the type of ``rows``."""
        raise NotImplementedError

    def query_rows(self, rows: Tensor) -> Tensor:
        """``(N, D)`` -> ``(N, D')`` of queries, in the type of ``rows``."""
        raise NotImplementedError

    def _length(self, rows: Tensor) -> Tensor:
        """``(Q, 1)`` bounds of the partial sums, from prepared queries."""
        return torch.linalg.vector_norm(rows, dim=1, keepdim=True) * self.longest

    def _score(self, query: Tensor, gallery: Tensor) -> Tensor:
        raise NotImplementedError

    def _direction(self, rows: Tensor) -> Tensor:
        """``(Q, D)`` prepared queries, of the width of the given ones."""
        return self.query_rows(rows)

    def _factor_and_offset(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        raise NotImplementedError

    def _double_length(self, directions: Tensor) -> Tensor:
        """``(Q, 1)`` bounds of the partial sums of scores by :meth:`double_scores`."""
        return torch.linalg.vector_norm(directions, dim=1, keepdim=True) * self.longest.double()

    def queries(self, given: Tensor) -> Queries:
        """Return queries with their prepared rows, in the type they have."""
        rows = self.query_rows(given)
        roundings = _WINDOW * (given.shape[1] ** 0.5 + _FEW_ROUNDINGS) * torch.finfo(given.dtype).eps / 2
        return Queries(given, rows, self._length(rows).to(given.dtype) * roundings)

    @cached_property
    def distinct_rows(self) -> tuple[Tensor, Tensor]:
        """``(d,)`` gallery rows of which no two are equal, and ``(G,)`` which of them each row is equal to."""
        bits = torch.int64 if self.given.dtype == torch.float64 else torch.int32
        random = torch_generator(Stream.ROW_HASH, 0)
        factors = torch.randint(2**62, (self.given.shape[1],), generator=random).to(self.given.device) | 1
        # Sums modulo 2^64 of the bits; + 0: -0 is equal to 0.
        sums = [((part + 0.0).view(bits) * factors).sum(1) for part in self.given.split(_ROWS)]
        codes = torch.unique(torch.cat(sums), return_inverse=True)[1]
        numbers = torch.arange(len(codes), device=codes.device)
        first = torch.full_like(numbers, len(codes)).scatter_reduce_(0, codes, numbers, 'amin')[codes]
        equal = [(self.given[part] == self.given[first[part]]).all(1) for part in numbers.split(_ROWS)]
        # Rows whose sums agree by chance count as distinct.
        return torch.unique(numbers.where(~torch.cat(equal), first), return_inverse=True)

    @cached_property
    def _in_double(self) -> tuple[Tensor, Tensor]:
        """``(G,)`` factors and ``(G,)`` offsets that turn products of given rows into scores."""
        factors, offsets = [], []
        for part in self.given.split(_ROWS):
            factor, offset = self._factor_and_offset(part.double())
            factors.append(factor)
            offsets.append(offset)
        return torch.cat(factors), torch.cat(offsets)

    def directions(self, given: Tensor) -> tuple[Tensor, Tensor]:
        """Return queries for :meth:`double_scores` and :meth:`double_pairs`.

        Args:
            given: ``(Q, D)`` fp32.

        Returns:
            ``(Q, D)`` fp64, and the ``(Q, 1)`` window of those scores, as in :class:`Queries`.
        """
        rows = self._direction(given.double())
        roundings = _WINDOW * (given.shape[1] ** 0.5 + 2 * _FEW_ROUNDINGS) * torch.finfo(torch.float64).eps / 2
        return rows, roundings * self._double_length(rows)

    def double_scores(self, directions: Tensor, scores: Tensor) -> None:
        """Put the scores of all gallery rows, by products in fp64, into the first columns of ``scores (Q, L)``."""
        factor, offset = self._in_double
        start = 0
        for part in self.given.split(_ROWS):
            own = slice(start, start + len(part))
            scores[:, own] = torch.mm(directions, part.double().t()).mul_(factor[own]).add_(offset[own])
            start = own.stop

    def double_pairs(self, directions: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        """``(n,)`` the same scores of some pairs, ``rows (n,)`` rising; each rounded in its own way."""
        factor, offset = self._in_double
        used, count = torch.unique_consecutive(rows, return_counts=True)
        found = []
        if rows.device.type == 'cpu' and len(rows) > _LONG_RUN * len(used):
            for row, own in zip(used.tolist(), columns.split(count.tolist()), strict=True):
                found.append(self.given.index_select(0, own).double() @ directions[row])
        else:
            at_once = max(1, _PAIR_ENTRIES // directions.shape[1])
            for row, own in zip(rows.split(at_once), columns.split(at_once), strict=True):
                found.append((self.given.index_select(0, own).double() * directions.index_select(0, row)).sum(1))
        return torch.cat(found).mul_(factor[columns]).add_(offset[columns])

    def pairs(self, query: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        """Exact scores of some pairs, in an order that is that of the distance: see :mod:`.pair_scores`.

        Args:
            query: ``(Q, D)`` given queries.
            rows: ``(n,)`` which of them.
            columns: ``(n,)`` gallery rows.

        Returns:
            ``(n,)`` fp64, a function of the two rows alone: equal rows have equal scores. On the CPU where the device
            has no fp64.
        """
        at_once = max(1, _PAIR_ENTRIES // max(query.shape[1], 1))
        if query.device.type == 'mps':
            query, rows, columns = query.cpu(), rows.cpu(), columns.cpu()
        found = [query.new_empty(0, dtype=torch.float64)]
        for row, column in zip(rows.split(at_once), columns.split(at_once), strict=True):
            # Several times as fast as brackets.
            some = self.given.index_select(0, column.to(self.given.device)).to(query.device)
            found.append(self._score(query.index_select(0, row).double(), some.double()))
        return torch.cat(found)
