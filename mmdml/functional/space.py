"""Scores of rows, higher is nearer: by matrix products, and exactly by pairs; base of the distances.

Exact scores decide where the rounding of a product cannot. Each is a function of its two rows alone: sums are taken in
fp64 in one fixed order, whatever the block, the place in it, or the device. Equal rows have equal scores, and rows of
small whole numbers tie as arithmetic says.
"""

from collections.abc import Callable

import torch
from torch import Tensor

# Rows that are prepared at once, and entries of pairs: few enough for a cache.
ROWS_AT_ONCE, PAIR_ENTRIES = 2**12, 2**18
# See `Space`.
WINDOW, FEW_ROUNDINGS = 2, 4

#: Rows of this process -> rows of all that hold a part.
Gather = Callable[[Tensor], Tensor]


def power_of_two(magnitudes: Tensor) -> Tensor:
    """Return what takes magnitudes to [1/2, 1) when multiplied, a power of two; 1 where they are 0."""
    # Exponents that leave room for the squares of rows of a type, and whose powers of two it holds.
    limit = 1000 if magnitudes.dtype == torch.float64 else 126
    exponents = torch.frexp(magnitudes.cpu() if magnitudes.device.type == 'mps' else magnitudes).exponent
    # The bits of an fp64 number: its exponent, from 1023 on, and a fraction of 0.
    bits = (1023 - exponents.long().clamp_(-limit, limit)) << 52
    return bits.view(torch.float64).to(magnitudes.dtype).to(magnitudes.device)


def scaled_rows(rows: Tensor) -> Tensor:
    """``(N, D)`` rows whose largest magnitude is in [1/2, 1), by a power of two each, which is exact.

    Subnormal rows stay smaller, as their power of two has no reciprocal; they are at least 2^-74 (fp32: 2^-23).
    """
    return rows * power_of_two(torch.maximum(rows.amax(1, keepdim=True), -rows.amin(1, keepdim=True)))


def unit_rows(rows: Tensor) -> Tensor:
    """``(N, D)`` rows of length 1, whatever their norms: no square over- or underflows. Rows of zeros stay zero."""
    rows = scaled_rows(rows)
    norms = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    return rows.div_(norms.masked_fill_(norms == 0, 1))


def tree_sum(terms: Tensor) -> Tensor:
    """``(N, D)`` -> ``(N,)`` sums of rows: halves are added until one column is left, whatever N is. Overwrites."""
    width = terms.shape[1]
    while width > 1:
        half = (width + 1) // 2
        terms[:, : width - half] += terms[:, half:width]
        width = half
    return terms[:, 0]


class Space:
    r"""A gallery whose scores are products of prepared rows; base of the distances.

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
        gather: puts the rows of all processes together. Default: this one has all.

    Attributes:
        given: the gallery as it came.
        gallery: ``(G, D')`` its prepared rows.
    """

    #: Power of two by which rows are multiplied, as far as it is one for all.
    scale = 1.0

    def __init__(self, query: Tensor, gallery: Tensor, gather: Gather = lambda rows: rows) -> None:
        self.given = gallery
        self._prepare(query, gallery, gather)
        self.gallery = self._prepared()
        norms = torch.linalg.vector_norm(self.gallery[:, : gallery.shape[1]], dim=1, keepdim=True)
        self.longest = gather(norms).amax()

    def _prepare(self, query: Tensor, gallery: Tensor, gather: Gather) -> None:
        """Keep what the preparation of a row takes from all rows."""

    def _prepared(self) -> Tensor:
        rows = self.given.new_empty(len(self.given), self.gallery_rows(self.given[:0]).shape[1])
        for own, part in zip(rows.split(ROWS_AT_ONCE), self.given.split(ROWS_AT_ONCE), strict=True):
            own.copy_(self.gallery_rows(part))
        return rows

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
        """``(n, D)`` pairs of given rows in fp64 -> ``(n,)`` exact scores."""
        raise NotImplementedError

    def queries(self, given: Tensor) -> tuple[Tensor, Tensor]:
        """``(Q, D)`` -> ``(Q, D')`` for products with :attr:`gallery`, and the ``(Q, 1)`` window w of their scores."""
        rows = self.query_rows(given)
        roundings = WINDOW * (given.shape[1] ** 0.5 + FEW_ROUNDINGS) * torch.finfo(given.dtype).eps / 2
        return rows, self._length(rows).to(given.dtype) * roundings

    def pairs(self, query: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        """``(n,)`` fp64: exact scores of queries ``query (Q, D)[rows (n,)]`` with gallery rows ``columns (n,)``.

        On the CPU where the device has no fp64.
        """
        at_once = max(1, PAIR_ENTRIES // max(query.shape[1], 1))
        if query.device.type == 'mps':
            query, rows, columns = query.cpu(), rows.cpu(), columns.cpu()
        found = [query.new_empty(0, dtype=torch.float64)]
        for row, column in zip(rows.split(at_once), columns.split(at_once), strict=True):
            # Several times as fast as brackets.
            some = self.given.index_select(0, column.to(self.given.device)).to(query.device)
            found.append(self._score(query.index_select(0, row).double(), some.double()))
        return torch.cat(found)
