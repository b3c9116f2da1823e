"""Similarities of all pairs of images, block after block."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from mmdml.functional.distances import check_in_ball
from mmdml.functional.exact_products import exact_products
from mmdml.functional.inputs import check_finite, encode, to_matrix
from mmdml.functional.space import power_of_two, unit_rows
from mmdml.utils.near_names import did_you_mean
from mmdml.utils.numbers import is_whole

from .arguments import Keys

# Cosines are whole multiples of this, far above the rounding of products in fp64: equal ones tie.
_COSINE_GRID = 2.0**-46
# Products of fp32 rows are taken in fp64 and rounded once: equal rows tie, whatever the block or the place in it.
_BY_PRODUCTS = ('cosine', 'dot')


def _cosines(query: Tensor, gallery: Tensor) -> Tensor:
    """Cosines of unit rows: ``(B, D)``, ``(G, D)`` -> ``(B, G)``."""
    return (query @ gallery.t()).div_(_COSINE_GRID).round_().mul_(_COSINE_GRID)


def hyperbolic_similarity(query: Tensor, gallery: Tensor) -> Tensor:
    """Minus the hyperbolic distances (curvature -1) of points in the unit ball: ``(B, D)``, ``(G, D)``."""
    apart = torch.cdist(query, gallery, compute_mode='donot_use_mm_for_euclid_dist')
    # arcosh(1 + 2 a^2 / b^2) = 2 arsinh(a / b).
    return torch.asinh(apart / (_to_rim(query)[:, None] * _to_rim(gallery))).mul_(-2)


def _to_rim(rows: Tensor) -> Tensor:
    """``(N,)`` square roots of 1 - |x|^2, from fp64: in fp32 rows near the rim would lie on it."""
    wide = (rows.cpu() if rows.device.type == 'mps' else rows).double()
    return (1 - wide.square().sum(1)).sqrt().to(rows)


#: distance -> embeddings ready for comparison, and what compares ``(B, D)`` with ``(G, D)``; larger is nearer.
SIMILARITIES: dict[str, Callable[[Tensor], tuple[Tensor, Callable[[Tensor, Tensor], Tensor]]]] = {
    'cosine': lambda rows: (unit_rows(rows), _cosines),
    'dot': lambda rows: (rows, lambda query, gallery: query @ gallery.t()),
    'euclidean': lambda rows: (
        rows,
        lambda query, gallery: torch.cdist(query, gallery, compute_mode='donot_use_mm_for_euclid_dist').neg_(),
    ),
    'hyperbolic': lambda rows: (check_in_ball(rows), hyperbolic_similarity),
}


# Rows of larger magnitudes, or none so large, have squares near the ends of fp32.
_SAFE = 2.0**40


def _in_range(rows: Tensor, distance: str) -> tuple[Tensor, float]:
    """Return rows whose scores neither over- nor underflow, and what to multiply these by: powers of two are exact."""
    largest = torch.maximum(rows.amax(), -rows.amin())
    if distance not in ('dot', 'euclidean') or 1 / _SAFE < largest < _SAFE:
        return rows, 1.0
    scale = power_of_two(largest)
    unit = 1 / scale.item()
    return rows * scale, unit * unit if distance == 'dot' else unit


class PairScores:
    """Scores of all pairs of images, some at a time.

    Args:
        embeddings: ``(N, D)``.
        labels: ``(N,)`` int64 values or strings.
        ids: ``(N,)``; rows of one id form no pair. None: all differ.
        distance: 'cosine', 'dot', 'euclidean' or 'hyperbolic'.
        block_size: rows compared with all others at a time.
        device: where to compute. Default: where ``embeddings`` are.

    Attributes:
        unit: power of two that scores are to be multiplied by, 1 unless they would over- or underflow without it.
        dtype: of the scores, that of the embeddings.
        bits: of a score.

    Raises:
        ValueError, TypeError: as :func:`verification_scores`.
    """

    def __init__(
        self,
        embeddings: Tensor | np.ndarray,
        labels: Keys,
        ids: Keys | None,
        distance: str,
        block_size: int,
        device: str | torch.device | None,
    ) -> None:
        if distance not in SIMILARITIES:
            known = list(SIMILARITIES)
            raise ValueError(f'unknown distance {distance!r}; known are {known}{did_you_mean(distance, known)}')
        if not is_whole(block_size) or block_size < 1:
            raise ValueError(f'block_size must be at least 1, got {block_size!r}')
        rows = to_matrix('embeddings', embeddings, device)
        check_finite('the', rows)
        if len(rows) == 0:
            raise ValueError('there are no embeddings')
        self.codes = encode('labels', labels, None, rows, rows)[0]
        self.ids = None if ids is None else encode('ids', ids, None, rows, rows)[0]
        if self.ids is not None and len(self.ids.unique()) == len(rows):
            self.ids = None
        self.num_classes = int(self.codes.max()) + 1
        self.dtype = rows.dtype
        self.bits = 64 if rows.dtype == torch.float64 else 32
        rows, self.unit = _in_range(rows, distance)
        if distance in _BY_PRODUCTS and rows.device.type != 'mps':
            rows = rows.double()
        self.rows, self.compare = SIMILARITIES[distance](rows)
        self.block_size = block_size

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Scores ``(P,)``, and whether each pair is of one class; every pair once."""
        yield from self._blocks()

    def by_class(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Scores, whether each pair is of one class, and the class of one image; every pair twice, once for each."""
        for scores, same_class, first, second in self._blocks(with_classes=True):
            yield scores.repeat(2), same_class.repeat(2), torch.cat([first, second])

    def _blocks(self, with_classes: bool = False) -> Iterator[tuple[Tensor, ...]]:
        """Scores ``(P,)``, whether of one class, ``with_classes`` the classes of both images; every pair once."""
        for start in range(0, len(self.rows), self.block_size):
            part, others = slice(start, start + self.block_size), slice(start, None)
            with exact_products(self.rows.device):
                scores = self.compare(self.rows[part], self.rows[others]).to(self.dtype)
            first, second = self.codes[part, None].expand_as(scores), self.codes[None, others].expand_as(scores)
            found = [scores, first == second, *((first, second) if with_classes else ())]
            differ = None if self.ids is None else self.ids[part, None] != self.ids[None, others]
            block = len(scores)
            # Of the square of the block with itself one half; all of the rest.
            half = torch.ones(block, block, dtype=torch.bool, device=scores.device).triu_(1)
            for columns, is_pair in ((slice(0, block), half), (slice(block, None), None)):
                if differ is not None:
                    is_pair = differ[:, columns] if is_pair is None else differ[:, columns] & is_pair
                parts = [values[:, columns] for values in found]
                yield tuple(values.reshape(-1) if is_pair is None else values[is_pair] for values in parts)
