"""Re-ranking by k-reciprocal encoding, sparse: memory grows with N k, never with N x N."""

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from mmdml.utils.numbers import check_counts, is_number

from .exact_products import exact_products
from .inputs import check_finite, to_matrix
from .neighbor_sets import add_shared, expanded_sets, indicator, to_tensors
from .space import tree_sum, unit_rows

DISTANCES = ('cosine', 'euclidean')

#: A block of distances holds at most so many entries (256 MB in fp32), however large the gallery.
_MAX_BLOCK_ENTRIES = 2**26


class KReciprocalEncoding:
    r"""k-reciprocal encoding of queries and gallery (Zhong et al., CVPR 2017): re-ranked distances, a block at a time.

    Two rows are near if their neighborhoods agree. All of it happens within the N rows of queries and gallery
    together: queries help each other, so scores after re-ranking are transductive. With d the squared Euclidean
    distance divided by the largest that the row has to any of the N, N(p, k) the k nearest
    rows and p itself, and lambda ``weight``:

    .. math::
        R(p, k) = \{g : g \in N(p, k) \wedge p \in N(g, k)\} \\
        R^*(p, k_1) = R(p, k_1) \cup \bigcup_{q} R(q, k_1 / 2), \quad
            q \in R(p, k_1): |R(p, k_1) \cap R(q, k_1 / 2)| > 2/3 |R(q, k_1 / 2)| \\
        V_{p, g} \propto e^{-d(p, g)} \text{ if } g \in R^*(p, k_1) \text{, else } 0 \text{; rows sum to 1} \\
        V_p \leftarrow \text{mean of } V \text{ over the } k_2 \text{ nearest rows, of which p is the first} \\
        d_J(p, g) = 1 - \sum_j \min(V_{p, j}, V_{g, j}) / \sum_j \max(V_{p, j}, V_{g, j}) \\
        d^*(p, g) = (1 - \lambda) d_J(p, g) + \lambda d(p, g)

    Where the authors' released code differs from the paper this follows the code: rows of V sum to 1, d is divided by
    the largest, and R* requires more than 2/3.

    Neighbors at exactly the same distance as the k-th (more than k duplicates) are cut in no particular order.

    Args:
        query: ``(Q, D)`` embeddings.
        gallery: ``(G, D)``. Default: the queries, which search each other; each then finds itself at distance 0, and
            whoever scores the result leaves it out by identity.
        k1: neighbors that define the reciprocal sets; all others, if there are fewer.
        k2: rows averaged by the local query expansion; 1 for none.
        weight: lambda in [0, 1], the share of the original distance.
        distance: 'cosine' (of unit vectors) or 'euclidean'.
        block_size: rows searched at a time, fewer where there are many.
        device: where to search. Default: where ``query`` is. The sets are made on the CPU.

    Raises:
        ValueError: if shapes do not fit, a side is empty or not finite, or a setting is out of range.

    Example:
        >>> encoding = KReciprocalEncoding(query, gallery)
        >>> for start in range(0, len(query), 1024):
        ...     scores = -encoding.distances(start, start + 1024)
    """

    @torch.no_grad()
    def __init__(
        self,
        query: Tensor | np.ndarray,
        gallery: Tensor | np.ndarray | None = None,
        *,
        k1: int = 20,
        k2: int = 6,
        weight: float = 0.3,
        distance: str = 'cosine',
        block_size: int = 1024,
        device: str | torch.device | None = None,
    ) -> None:
        _check(k1, k2, weight, distance, block_size)
        query = _rows('query', query, device)
        self.num_queries = len(query)
        self.gallery_start = 0
        rows = query
        if gallery is not None:
            gallery = _rows('gallery', gallery, query.device)
            if query.shape[1] != gallery.shape[1]:
                raise ValueError(f'query has {query.shape[1]} dimensions, the gallery {gallery.shape[1]}')
            rows = torch.cat([query, gallery])
            self.gallery_start = len(query)
        self._rows = unit_rows(rows) if distance == 'cosine' else _centered(rows)
        self._squares = torch.linalg.vector_norm(self._rows, dim=1).square_()
        self.weight = weight
        self._block_size = block_size

        neighbors, self._largest = self._search(min(max(k1 + 1, k2), len(rows)))
        encoding = self._encode(neighbors, k1)
        if k2 > 1:
            nearest = indicator(neighbors[:, :k2], encoding.dtype)
            nearest.data /= min(k2, len(rows))
            encoding = nearest @ encoding
        device = self._rows.device
        queries = encoding[: self.num_queries].tocsr()
        self._query_start, self._query_columns, self._query_values = to_tensors(queries, device)
        # By column of V: which gallery rows have an entry there.
        columns = encoding[self.gallery_start :].tocsc()
        self._column_start, self._column_rows, self._column_values = to_tensors(columns, device)

    @property
    def num_gallery(self) -> int:
        """G."""
        return len(self._rows) - self.gallery_start

    @torch.no_grad()
    def distances(self, start: int, stop: int) -> Tensor:
        """Re-ranked distances d* of some queries to the whole gallery: smaller is nearer, in [0, 1].

        Args:
            start: first query.
            stop: the one after the last; past the end is fine, as in a slice.

        Returns:
            ``(B, G)`` on the device of the search.
        """
        return self.jaccard(start, stop).mul_(1 - self.weight).add_(self.original(start, stop), alpha=self.weight)

    @torch.no_grad()
    def jaccard(self, start: int, stop: int) -> Tensor:
        """``(B, G)`` Jaccard distances d_J, as :meth:`distances` takes them."""
        start, stop, _ = slice(start, stop).indices(self.num_queries)
        shared = self._shared(start, max(start, stop))
        # Rows of V sum to 1, so the maxima sum to 2 minus the sum of the minima.
        return shared.div_(2 - shared).neg_().add_(1).clamp_min_(0)

    @torch.no_grad()
    def original(self, start: int, stop: int) -> Tensor:
        """``(B, G)`` distances d before re-ranking, as :meth:`distances` takes them."""
        start, stop, _ = slice(start, stop).indices(self.num_queries)
        squared = self._squared_distances(slice(start, max(start, stop)), slice(self.gallery_start, None))
        return squared.div_(self._largest[start : max(start, stop), None])

    def original_of_pairs(self, queries: Tensor, columns: Tensor) -> Tensor:
        """``(n,)`` distances d of pairs, from differences: equal gallery rows have equal ones."""
        at_once = max(1, _MAX_BLOCK_ENTRIES // self._rows.shape[1] // 16)
        found = [
            tree_sum((self._rows[query] - self._rows[column + self.gallery_start]).square_()) / self._largest[query]
            for query, column in zip(queries.split(at_once), columns.split(at_once), strict=True)
        ]
        return torch.cat(found)

    def rounding(self, start: int, stop: int) -> Tensor:
        """``(B, 1)``: what the matrix product may move the difference of two distances d by."""
        roundings = 4 * (self._rows.shape[1] ** 0.5 + 4) * torch.finfo(self._rows.dtype).eps
        return roundings * (self._squares.amax() / self._largest[start:stop, None] + 1)

    def top(self, n: int) -> tuple[Tensor, Tensor]:
        """Return the n nearest gallery rows of every query after re-ranking.

        Args:
            n: how many; all, if the gallery has fewer.

        Returns:
            ``(Q, n)`` int64 gallery rows, nearest first, and ``(Q, n)`` their distances d*.

        Raises:
            ValueError: if ``n`` is below 1.
        """
        if n < 1:
            raise ValueError(f'n must be at least 1, got {n}')
        step = _rows_at_once(self._block_size, self.num_gallery)
        parts = [
            self.distances(start, start + step).topk(min(n, self.num_gallery), dim=1, largest=False)
            for start in range(0, self.num_queries, step)
        ]
        return torch.cat([part.indices for part in parts]), torch.cat([part.values for part in parts])

    def _squared_distances(self, rows: slice, columns: slice) -> Tensor:
        with exact_products(self._rows.device):
            products = self._rows[rows] @ self._rows[columns].t()
        return products.mul_(-2).add_(self._squares[rows, None]).add_(self._squares[columns]).clamp_min_(0)

    def _search(self, k: int) -> tuple[np.ndarray, Tensor]:
        """``(N, k)`` nearest rows of every row, itself first, and ``(N,)`` its largest squared distance to any."""
        neighbors, largest = [], []
        step = _rows_at_once(self._block_size, len(self._rows))
        for start in range(0, len(self._rows), step):
            block = self._squared_distances(slice(start, start + step), slice(None))
            largest.append(block.amax(1))
            # A row is its own nearest, however many duplicates it has.
            block.diagonal(start).fill_(-1)
            neighbors.append(block.topk(k, dim=1, largest=False).indices.cpu())
        # Rows that are all equal differ by rounding only.
        precision = torch.finfo(self._rows.dtype)
        smallest = max(4 * precision.eps * float(self._squares.mean()), precision.tiny)
        return torch.cat(neighbors).numpy(), torch.cat(largest).clamp_min(smallest)

    def _encode(self, neighbors: np.ndarray, k1: int) -> sparse.csr_array:
        """V before the local query expansion, ``(N, N)`` with a few entries a row."""
        return sparse.vstack([self._kernel(sets, start) for start, sets in expanded_sets(neighbors, k1)], format='csr')

    def _kernel(self, sets: sparse.coo_array, start: int) -> sparse.csr_array:
        """exp(-d) where a set has members; row i of ``sets`` belongs to row ``start + i``. Rows sum to 1."""
        first = torch.from_numpy(sets.row.astype(np.int64) + start).to(self._rows.device)
        second = torch.from_numpy(sets.col.astype(np.int64)).to(self._rows.device)
        at_once = max(1, _MAX_BLOCK_ENTRIES // self._rows.shape[1] // 4)
        # From differences: rounding of a matrix product would show where rows are near.
        squared = [
            (self._rows[one] - self._rows[other]).square_().sum(1)
            for one, other in zip(first.split(at_once), second.split(at_once), strict=True)
        ]
        values = torch.exp(-torch.cat(squared) / self._largest[first]).cpu().numpy()
        sums = np.bincount(sets.row, weights=values, minlength=sets.shape[0])
        values = (values / sums[sets.row]).astype(values.dtype)
        return sparse.csr_array((values, (sets.row, sets.col)), shape=sets.shape)

    def _shared(self, start: int, stop: int) -> Tensor:
        """``(B, G)`` sum over j of min(V_{q,j}, V_{g,j}), from the entries that both have."""
        shared = self._rows.new_zeros(stop - start, self.num_gallery)
        bounds = self._query_start[start : stop + 1]
        entries = slice(int(bounds[0]), int(bounds[-1]))
        owners = torch.repeat_interleave(bounds.diff())
        columns, values = self._query_columns[entries], self._query_values[entries]
        add_shared(shared, (owners, columns, values), (self._column_start, self._column_rows, self._column_values))
        return shared


def _rows(name: str, rows: Tensor | np.ndarray, device: str | torch.device | None) -> Tensor:
    rows = to_matrix(name, rows, device)
    if len(rows) == 0:
        raise ValueError(f'the {name} is empty')
    check_finite(name, rows)
    return rows


def _centered(rows: Tensor) -> Tensor:
    """Rows about their mean, as a common offset would only cost digits; in units of the largest entry."""
    rows = rows - rows.mean(0)
    largest = torch.linalg.vector_norm(rows, float('inf'))
    if not torch.isfinite(largest):
        raise ValueError(f'embeddings are too large: their sum overflows {rows.dtype}; scale them down')
    return rows.div_(largest) if largest > 0 else rows


def _rows_at_once(block_size: int, columns: int) -> int:
    return max(1, min(block_size, _MAX_BLOCK_ENTRIES // columns))


def _check(k1: int, k2: int, weight: float, distance: str, block_size: int) -> None:
    check_counts(k1=k1, k2=k2, block_size=block_size)
    if not is_number(weight) or not 0 <= weight <= 1:
        raise ValueError(f'weight (lambda) must be in [0, 1], got {weight!r}')
    if distance not in DISTANCES:
        raise ValueError(f'unknown distance {distance!r}; known are {list(DISTANCES)}')
