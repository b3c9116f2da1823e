"""Similarities of all pairs of images, block after block."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from mmdml.functional.inputs import check_finite, encode, to_matrix
from mmdml.functional.spaces import exact_products, unit_rows
from mmdml.utils.near_names import did_you_mean

from .arguments import Keys

#: distance -> embeddings ready for comparison, and what compares ``(B, D)`` with ``(G, D)``; larger is nearer.
SIMILARITIES: dict[str, Callable[[Tensor], tuple[Tensor, Callable[[Tensor, Tensor], Tensor]]]] = {
    'cosine': lambda rows: (unit_rows(rows), lambda query, gallery: query @ gallery.t()),
    'dot': lambda rows: (rows, lambda query, gallery: query @ gallery.t()),
    'euclidean': lambda rows: (
        rows,
        lambda query, gallery: torch.cdist(query, gallery, compute_mode='donot_use_mm_for_euclid_dist').neg_(),
    ),
}


class PairScores:
    """Scores of all pairs of images, some at a time.

    Args:
        embeddings: ``(N, D)``.
        labels: ``(N,)`` int64 values or strings.
        ids: ``(N,)``; rows of one id form no pair. None: all differ.
        distance: 'cosine', 'dot' or 'euclidean'.
        block_size: rows compared with all others at a time.
        device: where to compute. Default: where ``embeddings`` are.

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
        if block_size < 1:
            raise ValueError(f'block_size must be at least 1, got {block_size}')
        rows = to_matrix('embeddings', embeddings, device)
        check_finite('the', rows)
        if len(rows) == 0:
            raise ValueError('there are no embeddings')
        self.codes = encode('labels', labels, None, rows, rows)[0]
        self.ids = None if ids is None else encode('ids', ids, None, rows, rows)[0]
        self.num_classes = int(self.codes.max()) + 1
        self.rows, self.compare = SIMILARITIES[distance](rows)
        self.block_size = block_size
        self.bits = 64 if rows.dtype == torch.float64 else 32

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Scores ``(P,)``, and whether each pair is of one class; every pair once."""
        for start in range(0, len(self.rows), self.block_size):
            scores, is_pair, same_class = self._block(start)
            yield scores[is_pair], same_class[is_pair]

    def by_class(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Scores, whether each pair is of one class, and the class of one image; every pair twice, once for each."""
        for start in range(0, len(self.rows), self.block_size):
            scores, is_pair, same_class = self._block(start)
            first = self.codes[start : start + self.block_size, None].expand_as(is_pair)[is_pair]
            second = self.codes[None, start:].expand_as(is_pair)[is_pair]
            yield scores[is_pair].repeat(2), same_class[is_pair].repeat(2), torch.cat([first, second])

    def _block(self, start: int) -> tuple[Tensor, Tensor, Tensor]:
        """``(B, N - start)`` of a block of rows with all from its first on: scores, which are pairs, and of one class.

        Each pair is in one block only.
        """
        part, others = slice(start, start + self.block_size), slice(start, None)
        with exact_products(self.rows.device):
            scores = self.compare(self.rows[part], self.rows[others])
        is_pair = torch.ones_like(scores, dtype=torch.bool).triu_(1)
        if self.ids is not None:
            is_pair &= self.ids[part, None] != self.ids[None, others]
        return scores, is_pair, self.codes[part, None] == self.codes[None, others]
