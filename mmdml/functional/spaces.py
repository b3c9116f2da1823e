"""Distances as matrix products: rows whose products are scores."""

import torch
from torch import Tensor

from .pair_scores import cosine_score, dot_score, euclidean_score, power_of_two, scaled_rows
from .space import Gather, Space

# Columns whose median is taken at once.
_COLUMNS = 16


def unit_rows(rows: Tensor) -> Tensor:
    """``(N, D)`` rows of length 1, whatever their norms: no square over- or underflows. Rows of zeros stay zero."""
    rows = scaled_rows(rows)
    norms = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    # Subnormal rows stay far below 1 when scaled: their norms are no smaller than 2^-74 (fp32: 2^-23).
    return rows.div_(norms.masked_fill_(norms == 0, 1))


class CosineSpace(Space):
    """Unit rows."""

    def gallery_rows(self, rows: Tensor) -> Tensor:
        """As :meth:`Space.gallery_rows`."""
        return unit_rows(rows)

    def query_rows(self, rows: Tensor) -> Tensor:
        """As :meth:`Space.query_rows`."""
        return unit_rows(rows)

    def _score(self, query: Tensor, gallery: Tensor) -> Tensor:
        return cosine_score(scaled_rows(query), scaled_rows(gallery))

    def _factor_and_offset(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        norms = torch.linalg.vector_norm(rows, dim=1)
        return torch.where(norms > 0, 1 / norms, 0), torch.zeros_like(norms)


class DotSpace(Space):
    """Rows as they are; each query and the whole gallery in its own power of two."""

    def _prepare(self, query: Tensor, gallery: Tensor, gather: Gather) -> None:
        largest = _largest(gallery, gather)
        # Within these limits no product can over- or underflow, and the gallery needs no copy.
        self.scale = 1.0 if 2**-40 < largest < 2**40 else power_of_two(gallery.new_tensor(largest)).item()

    def _needs_no_copy(self) -> bool:
        return self.scale == 1

    def gallery_rows(self, rows: Tensor) -> Tensor:
        """As :meth:`Space.gallery_rows`."""
        return rows * self.scale

    def query_rows(self, rows: Tensor) -> Tensor:
        """As :meth:`Space.query_rows`."""
        return scaled_rows(rows)

    def _score(self, query: Tensor, gallery: Tensor) -> Tensor:
        return dot_score(scaled_rows(query), gallery * self.scale)

    def _factor_and_offset(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        factors = torch.full_like(rows[:, 0], self.scale)
        return factors, torch.zeros_like(factors)


class EuclideanSpace(Space):
    """Rows about the gallery's median: q.g - |g|^2 / 2 falls as |q - g| grows, and a common offset costs no digits."""

    def _prepare(self, query: Tensor, gallery: Tensor, gather: Gather) -> None:
        largest = max(_largest(gallery, gather), _largest(query, gather))
        self.scale = power_of_two(gallery.new_tensor(largest)).item()
        # The median, as one far row must not move it. Few columns at a time: no rank holds the whole gallery.
        medians = [gather(columns).median(0).values for columns in gallery.split(_COLUMNS, dim=1)]
        self.center = torch.cat(medians) * self.scale

    def _about_center(self, rows: Tensor) -> Tensor:
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
        return euclidean_score(query * self.scale, gallery * self.scale)

    def _direction(self, rows: Tensor) -> Tensor:
        return self._about_center(rows)

    def _factor_and_offset(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        # q.center is one number for all rows.
        return torch.full_like(rows[:, 0], self.scale), self.gallery_rows(rows)[:, -1]

    def _double_length(self, directions: Tensor) -> Tensor:
        # Scaled entries are at most 1, so that no row is longer than sqrt(D); the offset is half a square.
        norms = torch.linalg.vector_norm(directions, dim=1, keepdim=True)
        return norms * directions.shape[1] ** 0.5 + self.longest.double().square() / 2


def _largest(rows: Tensor, gather: Gather) -> float:
    """Return the largest magnitude in all rows of all processes."""
    own = torch.maximum(rows.amax(), -rows.amin()) if rows.numel() else rows.new_zeros(())
    return float(gather(own.reshape(1, 1)).amax())


#: name -> space of query and gallery embeddings. Where the rows are parts that several processes hold, a third argument
#: gathers rows of all parts.
DISTANCES: dict[str, type[Space]] = {'cosine': CosineSpace, 'dot': DotSpace, 'euclidean': EuclideanSpace}
