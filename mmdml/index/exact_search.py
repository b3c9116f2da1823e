"""Exact nearest neighbors by blocks of a matrix that need not fit into memory."""

from typing import NamedTuple

import numpy as np

from mmdml.index.vector_store import Neighbors

#: Numbers of a block of the gallery, and of the similarities of the queries to it.
_BLOCK = 1 << 22
# Queries at a time up to which one thread multiplies: it waits for memory anyway, while threads of BLAS wait for each
# other in a loop, which takes ten times as long where other programs run.
_FEW_QUERIES = 4
# Scores of a query that are sorted beside the k best so far, as a multiple of k; more are selected first.
_FEW = 4


class Gallery(NamedTuple):
    """Vectors of one moment.

    Attributes:
        ids: ``(N,)`` ids of rows, increasing.
        places: ``(N,)`` their places in the matrix, increasing.
        matrix: ``(M, D)`` float32, mapped from the file.
    """

    ids: np.ndarray
    places: np.ndarray
    matrix: np.ndarray

    def part(self, rows: slice) -> 'Gallery':
        """Return some of the rows."""
        return Gallery(self.ids[rows], self.places[rows], self.matrix)

    def search(self, queries: np.ndarray, k: int) -> Neighbors:
        """Return the k nearest rows of each query ``(Q, D)``, exactly."""
        found = exact_neighbors(queries, self.matrix, self.places, k)
        if not len(self.ids):
            return found
        at = np.searchsorted(self.places, np.maximum(found.ids, 0))
        return Neighbors(found.scores, np.where(found.ids < 0, -1, self.ids[at]))


def merge_neighbors(first: Neighbors, second: Neighbors) -> Neighbors:
    """Return the best of both, of equal scores the lower id."""
    scores = np.concatenate([first.scores, second.scores], 1)
    ids = np.concatenate([first.ids, second.ids], 1)
    order = np.lexsort((ids, -scores), axis=1)[:, : first.ids.shape[1]]
    return Neighbors(np.take_along_axis(scores, order, 1), np.take_along_axis(ids, order, 1))


def exact_neighbors(queries: np.ndarray, gallery: np.ndarray, rows: np.ndarray, k: int) -> Neighbors:
    """Return the k nearest of some rows of a matrix for each query, by inner products.

    Args:
        queries: ``(Q, D)`` float32.
        gallery: ``(N, D)`` float32, possibly mapped from a file.
        rows: ``(M,)`` sorted rows of the gallery to search.
        k: neighbors of each query.

    Returns:
        Scores and rows, best first; equal scores by row. Where the gallery holds the same vector twice, the scores may
        still differ in the last bit if they lie in different blocks.
    """
    parts = [_neighbors(part, gallery, rows, k) for part in _query_blocks(queries)]
    return Neighbors(np.concatenate([part.scores for part in parts]), np.concatenate([part.ids for part in parts]))


def _query_blocks(queries: np.ndarray, number: int = 1024) -> list[np.ndarray]:
    return [queries[start : start + number] for start in range(0, max(len(queries), 1), number)]


def _neighbors(queries: np.ndarray, gallery: np.ndarray, rows: np.ndarray, k: int) -> Neighbors:
    scores = np.full((len(queries), k), -np.inf, np.float32)
    ids = np.full((len(queries), k), -1, np.int64)
    if not len(queries):
        return Neighbors(scores, ids)
    number = max(k, _BLOCK // max(gallery.shape[1], len(queries)))
    for start in range(0, len(rows), number):
        chosen = rows[start : start + number]
        whole = chosen[-1] - chosen[0] + 1 == len(chosen)
        block = gallery[chosen[0] : chosen[-1] + 1] if whole else gallery[chosen]
        scores, ids = _merge(scores, ids, _products(queries, block), chosen)
    return Neighbors(scores, ids)


def _products(queries: np.ndarray, block: np.ndarray) -> np.ndarray:
    if len(queries) <= _FEW_QUERIES:
        return np.einsum('qd,nd->qn', queries, block)
    return queries @ block.T


def _merge(best: np.ndarray, ids: np.ndarray, found: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Merge the best of all blocks before with the scores ``(Q, B)`` of a block."""
    k = best.shape[1]
    fits = found >= best[:, -1:]
    if found.shape[1] > k and np.count_nonzero(fits) > _FEW * k * len(best):
        # A row among the k best of all is among the k best of its block; ties stay in, and are decided below.
        fits &= found >= np.partition(found, -k, axis=1)[:, -k, None]
    query, column = np.divmod(np.flatnonzero(fits), found.shape[1])
    # Blocks come in the order of rows: of equal scores, those that are there stay in front.
    all_queries = np.concatenate([np.repeat(np.arange(len(best)), k), query])
    all_scores = np.concatenate([best.reshape(-1), found[query, column]])
    all_ids = np.concatenate([ids.reshape(-1), rows[column]])
    order = np.lexsort((-all_scores, all_queries))  # stable
    first = np.searchsorted(all_queries[order], np.arange(len(best)))
    kept = order[first[:, None] + np.arange(k)]
    return all_scores[kept], all_ids[kept]
