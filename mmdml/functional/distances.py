"""The distances, as scores of rows."""

import torch
from torch import Tensor

from .space import ROWS_AT_ONCE, Gather, Space, power_of_two, scaled_rows, tree_sum, unit_rows

# Columns whose median is taken at once: few enough for a cache.
_COLUMNS_AT_ONCE = 16
# Squared sine of an angle that is rounding.
_NO_ANGLE = 2.0**-100


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
        check_in_ball(query)
        check_in_ball(gallery)

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


def check_in_ball(rows: Tensor) -> Tensor:
    """Return rows ``(N, D)`` that are points inside the unit ball.

    Raises:
        ValueError: if they are not.
    """
    for part in rows.split(ROWS_AT_ONCE):
        squared = (part.cpu() if part.device.type == 'mps' else part).double().square().sum(1)
        if not (squared < 1).all():
            raise ValueError(
                "distance='hyperbolic' takes points inside the unit ball, as HyperbolicEmbedding gives them, "
                f'got a row of length {squared.amax().sqrt().item():.6g}'
            )
    return rows


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
