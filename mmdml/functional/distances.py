"""Distances as scores of rows, higher is nearer: by matrix products, and exactly by pairs.

Exact scores decide where the rounding of a product cannot. Each is a function of its two rows alone: sums are taken in
fp64 in one fixed order, whatever the block, the place in it, or the device. Equal rows have equal scores, and rows of
small whole numbers tie as arithmetic says.
"""

from collections.abc import Callable

import torch
from torch import Tensor

# Rows that are prepared at once, columns whose median is taken at once, and entries of pairs: few enough for a cache.
ROWS_AT_ONCE, _COLUMNS_AT_ONCE, PAIR_ENTRIES = 2**12, 16, 2**18
# See `Space`.
WINDOW, FEW_ROUNDINGS = 2, 4
# Squared sine of an angle that is rounding.
_NO_ANGLE = 2.0**-100

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
    # Subnormal rows stay far below 1 when scaled: their norms are no smaller than 2^-74 (fp32: 2^-23).
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


class CosineSpace(Space):
    """Unit rows."""

    def gallery_rows(self, rows: Tensor) -> Tensor:
        """As :meth:`Space.gallery_rows`."""
        return unit_rows(rows)

    query_rows = gallery_rows

    def _score(self, query: Tensor, gallery: Tensor) -> Tensor:
        r"""Numbers that rise with the cosine, to full precision at small angles.

        With c the cosine and s the sine, c |c| - 1 where c^2 <= 1/2; beyond, -s^2 for c > 0 and s^2 - 2 for c < 0, as
        the cosine of a small angle is 1 to all digits.

        .. math::
            c |c| = \frac{(q \cdot g) |q \cdot g|}{|q|^2 |g|^2}, \quad
            s^2 = \frac{\sum_i (|q|^2 g_i - (q \cdot g) q_i)^2}{|q|^4 |g|^2}

        Rows of zeros have the cosine 0; angles below the rounding of fp64, about 1e-15, are 0. Quotients of whole
        numbers without a root: where these are exact, rows at one angle tie.
        """
        query, gallery = scaled_rows(query), scaled_rows(gallery)
        dot, squared, other = tree_sum(query * gallery), tree_sum(query.square()), tree_sum(gallery.square())
        both = squared * other
        score = torch.where(both > 0, dot * dot.abs() / both, 0)
        steep = (score.abs() > 0.5).nonzero().squeeze(1)
        score -= 1
        across = gallery[steep] * squared[steep, None] - query[steep] * dot[steep, None]
        sine = tree_sum(across.square_()) / (squared[steep] * both[steep])
        sine = torch.where(sine > _NO_ANGLE, sine, 0)
        score[steep] = torch.where(dot[steep] > 0, -sine, sine - 2)
        return score


class DotSpace(Space):
    """Rows as they are; each query and the whole gallery in its own power of two."""

    def _prepare(self, query: Tensor, gallery: Tensor, gather: Gather) -> None:
        largest = _largest(gallery, gather)
        # Within these limits no product can over- or underflow, and the gallery needs no copy.
        self.scale = 1.0 if 2**-40 < largest < 2**40 else power_of_two(largest).item()

    def _prepared(self) -> Tensor:
        return self.given if self.scale == 1 else super()._prepared()

    def gallery_rows(self, rows: Tensor) -> Tensor:
        """As :meth:`Space.gallery_rows`."""
        return rows * self.scale

    def query_rows(self, rows: Tensor) -> Tensor:
        """As :meth:`Space.query_rows`."""
        return scaled_rows(rows)

    def _score(self, query: Tensor, gallery: Tensor) -> Tensor:
        return tree_sum(scaled_rows(query) * (gallery * self.scale))


class EuclideanSpace(Space):
    """Rows about the gallery's median: q.g - |g|^2 / 2 falls as |q - g| grows, and a common offset costs no digits."""

    def _prepare(self, query: Tensor, gallery: Tensor, gather: Gather) -> None:
        self.scale = power_of_two(torch.maximum(_largest(gallery, gather), _largest(query, gather))).item()
        # The median, as one far row must not move it. Few columns at a time: no rank holds the whole gallery.
        medians = [gather(columns).median(0).values for columns in gallery.split(_COLUMNS_AT_ONCE, dim=1)]
        self.center = torch.cat(medians) * self.scale

    def _about_center(self, rows: Tensor) -> Tensor:
        """``(N, D)`` scaled rows less the center."""
        return (rows * self.scale).sub_(self.center)

    def gallery_rows(self, rows: Tensor) -> Tensor:
        """As :meth:`Space.gallery_rows`; the second term is one more dimension, so that the product does all of it."""
        rows = self._about_center(rows)
        wide = rows if rows.device.type == 'mps' else rows.double()
        bias = wide.square().sum(1, keepdim=True) / -2
        return torch.cat([rows, bias.to(rows.dtype)], 1)

    def query_rows(self, rows: Tensor) -> Tensor:
        """As :meth:`Space.query_rows`."""
        rows = self._about_center(rows)
        return torch.cat([rows, torch.ones_like(rows[:, :1])], 1)

    def _length(self, rows: Tensor) -> Tensor:
        norms = torch.linalg.vector_norm(rows[:, :-1], dim=1, keepdim=True)
        return (norms + self.longest / 2) * self.longest

    def _score(self, query: Tensor, gallery: Tensor) -> Tensor:
        # From differences: near pairs lose no digits.
        return tree_sum((query * self.scale - gallery * self.scale).square_()).neg_()


class HyperbolicSpace(Space):
    r"""Points of the unit ball by their hyperbolic distance; a curvature other than -1 changes it by a factor.

    :math:`d = \operatorname{arcosh}(1 + 2 |q - g|^2 / ((1 - |q|^2) (1 - |g|^2)))` falls for one q as the product

    .. math:: \frac{k^T g - 1}{1 - |g|^2}, \qquad k = \frac{2 q}{1 + |q|^2}

    rises. The factors of rows are computed in fp64.
    """

    def _prepare(self, query: Tensor, gallery: Tensor, gather: Gather) -> None:
        for rows in (*query.split(ROWS_AT_ONCE), *gallery.split(ROWS_AT_ONCE)):
            squared = (rows.cpu() if rows.device.type == 'mps' else rows).double().square().sum(1)
            if not (squared < 1).all():
                raise ValueError(
                    "distance='hyperbolic' takes points inside the unit ball, as HyperbolicEmbedding gives them, "
                    f'got a row of length {squared.amax().sqrt().item():.6g}'
                )

    def gallery_rows(self, rows: Tensor) -> Tensor:
        """As :meth:`Space.gallery_rows`; the last column is that of the -1."""
        wide = rows if rows.device.type == 'mps' else rows.double()
        factor = 1 / (1 - wide.square().sum(1, keepdim=True))
        return torch.cat([wide * factor, -factor], 1).to(rows.dtype)

    def query_rows(self, rows: Tensor) -> Tensor:
        """As :meth:`Space.query_rows`."""
        wide = rows if rows.device.type == 'mps' else rows.double()
        klein = 2 * wide / (1 + wide.square().sum(1, keepdim=True))
        return torch.cat([klein, torch.ones_like(klein[:, :1])], 1).to(rows.dtype)

    def _length(self, rows: Tensor) -> Tensor:
        # With the longest l = r / (1 - r^2), 1 / (1 - r^2) is at most 1 + l, by which fp64 rows err more.
        norms = torch.linalg.vector_norm(rows[:, :-1], dim=1, keepdim=True)
        return (norms * self.longest + 1 + self.longest) * (1 + self.longest if rows.dtype == torch.float64 else 1)

    def _score(self, query: Tensor, gallery: Tensor) -> Tensor:
        room = (1 - tree_sum(query.square())) * (1 - tree_sum(gallery.square()))
        return (tree_sum((query - gallery).square_()) / room).neg_()


def _largest(rows: Tensor, gather: Gather) -> Tensor:
    """Return the largest magnitude in all rows of all processes."""
    own = torch.maximum(rows.amax(), -rows.amin()) if rows.numel() else rows.new_zeros(())
    return gather(own.reshape(1, 1)).amax()


#: name -> space of query and gallery embeddings. Where the rows are parts that several processes hold, a third argument
#: gathers rows of all parts.
DISTANCES: dict[str, type[Space]] = {
    'cosine': CosineSpace,
    'dot': DotSpace,
    'euclidean': EuclideanSpace,
    'hyperbolic': HyperbolicSpace,
}
