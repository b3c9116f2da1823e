"""Retrieval scores in blocks of queries: exact, and never an N x N matrix."""

import logging
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .inputs import check_finite, encode, to_matrix

Keys = Tensor | np.ndarray | Sequence[int] | Sequence[str]

#: Scores this close tie (at unit scale), and the negative of a tie comes first: a tie never flatters.
TIE = 1e-6
#: A block of scores holds at most so many entries (256 MB in fp32), however large the gallery.
MAX_BLOCK_ENTRIES = 2**26


class _Space(NamedTuple):
    """Scores are ``query @ gallery.T + bias``, higher is nearer, and tie within ``tie``."""

    query: Tensor
    gallery: Tensor
    bias: Tensor | None
    tie: float


def _rms_norm(rows: Tensor) -> float:
    # Not 0: rows that are all zero score an exact 0, and a positive must still fall behind a negative.
    return max(float(rows.square().sum(1).mean().sqrt()), 1e-12)


def _cosine(query: Tensor, gallery: Tensor) -> _Space:
    unit_gallery = torch.nn.functional.normalize(gallery)
    unit_query = unit_gallery if query is gallery else torch.nn.functional.normalize(query)
    return _Space(unit_query, unit_gallery, None, TIE)


def _dot(query: Tensor, gallery: Tensor) -> _Space:
    return _Space(query, gallery, None, TIE * _rms_norm(query) * _rms_norm(gallery))


def _euclidean(query: Tensor, gallery: Tensor) -> _Space:
    # q.g - |g|^2 / 2 falls as |q - g| grows. A common offset of all rows would only cost digits: take it out first.
    centre = gallery.mean(0)
    centred_gallery = gallery - centre
    centred_query = centred_gallery if query is gallery else query - centre
    scale = _rms_norm(centred_gallery)
    tie = TIE * scale * max(_rms_norm(centred_query), scale)
    return _Space(centred_query, centred_gallery, -centred_gallery.square().sum(1) / 2, tie)


#: name -> function that turns query and gallery embeddings into something a matrix product can score.
DISTANCES: dict[str, Callable[[Tensor, Tensor], _Space]] = {'cosine': _cosine, 'dot': _dot, 'euclidean': _euclidean}


class _Groups:
    """Gallery rows by key, found without comparing every query with every row."""

    def __init__(self, keys: Tensor) -> None:
        self.keys, self.rows = keys.sort(stable=True)

    def find(self, keys: Tensor) -> tuple[Tensor, Tensor]:
        """Rows of every key, ``(Q,)`` -> ``(Q, W)`` row numbers and ``(Q, W)`` bool: which of them count."""
        start = torch.searchsorted(self.keys, keys)
        count = torch.searchsorted(self.keys, keys, right=True) - start
        offset = torch.arange(max(int(count.max()), 1), device=keys.device)
        place = (start[:, None] + offset).clamp_max(len(self.keys) - 1)
        return self.rows[place], offset < count[:, None]


class RankedBlock:
    """Scores of a block of queries against the whole gallery, and what the metrics read from them.

    Args:
        scores: ``(Q, G)``, overwritten; excluded pairs are -inf.
        query_labels: ``(Q,)`` int64.
        gallery_labels: ``(G,)`` int64.
        same_label: the gallery rows by label.
        tie: positives lose this much, so that they come after every negative that they tie with.
    """

    def __init__(
        self, scores: Tensor, query_labels: Tensor, gallery_labels: Tensor, same_label: _Groups, tie: float
    ) -> None:
        rows, is_row = same_label.find(query_labels)
        found = scores.gather(1, rows)
        self.relevant = is_row & (found > float('-inf'))
        # Padding may repeat a row: the penalty is added (zero there), not written.
        scores.scatter_add_(1, rows, torch.zeros_like(found).masked_fill(self.relevant, -tie))
        self.positive_scores = scores.gather(1, rows).masked_fill(~self.relevant, float('-inf'))
        self.scores = scores
        self.query_labels = query_labels
        self.gallery_labels = gallery_labels

    @cached_property
    def num_relevant(self) -> Tensor:
        """``(Q,)`` R, the number of positives; the values of queries with R = 0 are never used."""
        return self.relevant.sum(1)

    @cached_property
    def negatives_ahead(self) -> Tensor:
        """``(Q,)`` negatives ranked before the nearest positive: a count of larger scores, nothing is sorted."""
        nearest = self.positive_scores.amax(1, keepdim=True)
        return (self.scores >= nearest).sum(1) - (self.positive_scores >= nearest).sum(1)

    @cached_property
    def hits_in_top_r(self) -> Tensor:
        """``(Q, max R)`` float64, 1 where rank i <= R holds a positive.

        The query itself shares its label, but it scores -inf and so never comes before R positives.
        """
        width = int(self.num_relevant.max())
        top = self.scores.topk(width, dim=1).indices
        is_relevant = self.gallery_labels[top] == self.query_labels[:, None]
        within = torch.arange(width, device=top.device) < self.num_relevant[:, None]
        return (is_relevant & within).double()


def _recall_at_k(block: RankedBlock, recall_at: Sequence[int]) -> dict[str, Tensor]:
    """Recall@K: is there a positive among the K nearest?"""
    return {f'Recall@{k}': (block.negatives_ahead < k).double() for k in recall_at}


def _map_at_r(block: RankedBlock, recall_at: Sequence[int]) -> dict[str, Tensor]:
    r"""MAP@R: :math:`\frac{1}{R} \sum_{i=1}^{R} \mathrm{rel}_i \cdot \mathrm{precision@}i`."""
    hits = block.hits_in_top_r
    rank = torch.arange(1, hits.shape[1] + 1, dtype=hits.dtype, device=hits.device)
    return {'MAP@R': (hits * hits.cumsum(1) / rank).sum(1) / block.num_relevant.clamp_min(1)}


def _r_precision(block: RankedBlock, recall_at: Sequence[int]) -> dict[str, Tensor]:
    """RP: the share of positives among the R nearest."""
    return {'RP': block.hits_in_top_r.sum(1) / block.num_relevant.clamp_min(1)}


#: name -> function of a block (and the K of Recall@K) that returns a value in [0, 1] per query under each key.
METRIC_FUNCTIONS: dict[str, Callable[[RankedBlock, Sequence[int]], dict[str, Tensor]]] = {
    'Recall@K': _recall_at_k,
    'MAP@R': _map_at_r,
    'RP': _r_precision,
}


@torch.no_grad()
def retrieval_scores(
    query: Tensor | np.ndarray,
    query_labels: Keys,
    gallery: Tensor | np.ndarray | None = None,
    gallery_labels: Keys | None = None,
    *,
    recall_at: Sequence[int] = (1, 2, 4, 8),
    metrics: Sequence[str] = ('Recall@K', 'MAP@R', 'RP'),
    exclude_self: bool | None = None,
    query_ids: Keys | None = None,
    gallery_ids: Keys | None = None,
    distance: str = 'cosine',
    block_size: int = 1024,
    device: str | torch.device | None = None,
) -> dict[str, float]:
    r"""Recall@K, MAP@R and R-precision of queries searched in a gallery.

    Musgrave et al., ECCV 2020. With R the number of positives of a query in the gallery and :math:`\mathrm{rel}_i`
    whether rank i holds one, averaged over queries:

    .. math::
        \mathrm{Recall@}K = 1[\exists i \le K: \mathrm{rel}_i], \quad
        \mathrm{RP} = \frac{1}{R} \sum_{i=1}^{R} \mathrm{rel}_i, \quad
        \mathrm{MAP@}R = \frac{1}{R} \sum_{i=1}^{R} \mathrm{rel}_i \cdot \mathrm{precision@}i

    Rules:
        - Scores within 1e-6 tie, and negatives come first. For 'dot' and 'euclidean' the 1e-6 is relative to the root
          mean square norms, so that scaling the embeddings changes nothing.
        - A query is kept from finding itself by its id, not by its rank.
        - Queries without a positive are left out and counted in the log.
        - Half precision is scored in fp32; fp64 stays fp64.

    Args:
        query: ``(Q, D)`` embeddings, of any norm.
        query_labels: ``(Q,)`` int64 values or strings.
        gallery: ``(G, D)`` embeddings. Default: every query searches all the others.
        gallery_labels: ``(G,)``, needed with ``gallery``.
        recall_at: the K of Recall@K.
        metrics: names from :data:`METRIC_FUNCTIONS`.
        exclude_self: whether gallery rows with the query's id are removed from its results. Default: if the ids of
            both sides are known, which they are where the queries search each other.
        query_ids: ``(Q,)`` ints or strings. Default: ``arange(Q)`` where the queries search each other.
        gallery_ids: ``(G,)``, only with ``gallery``.
        distance: 'cosine', 'dot' (larger is nearer) or 'euclidean'.
        block_size: queries scored at a time, fewer where the gallery is large; changes memory, not results.
        device: where to compute. Default: where ``query`` is.

    Returns:
        Fractions in [0, 1] by name: 'Recall@1', ..., 'MAP@R', 'RP'.

    Raises:
        ValueError: if shapes do not fit, the gallery is empty, embeddings are not finite, a name is unknown, or no
            query has a positive.
        TypeError: if labels or ids are neither integers nor strings.
    """
    _check_names(metrics, recall_at, distance, block_size)
    own_gallery = gallery is None
    if own_gallery and (gallery_labels is not None or gallery_ids is not None):
        raise ValueError('gallery_labels or gallery_ids were given without a gallery')
    if not own_gallery and gallery_labels is None:
        raise ValueError('a gallery needs gallery_labels')

    query = to_matrix('query', query, device)
    gallery = query if own_gallery else to_matrix('gallery', gallery, query.device)
    if len(gallery) == 0:
        raise ValueError('the gallery is empty: there is nothing to search')
    if len(query) == 0:
        raise ValueError('there are no queries')
    if query.shape[1] != gallery.shape[1]:
        raise ValueError(f'query has {query.shape[1]} dimensions, the gallery {gallery.shape[1]}')
    check_finite('query', query)
    if not own_gallery:
        check_finite('gallery', gallery)
        dtype = torch.promote_types(query.dtype, gallery.dtype)
        query, gallery = query.to(dtype), gallery.to(dtype)

    query_labels, gallery_labels = encode(
        'labels', query_labels, None if own_gallery else gallery_labels, query, gallery
    )
    if own_gallery and query_ids is None:
        query_ids = np.arange(len(query))
    ids_known = query_ids is not None and (own_gallery or gallery_ids is not None)
    if exclude_self is None:
        exclude_self = ids_known
    if exclude_self and not ids_known:
        raise ValueError('exclude_self needs query_ids and gallery_ids: which gallery row is the query itself?')
    if exclude_self:
        query_ids, gallery_ids = encode('ids', query_ids, None if own_gallery else gallery_ids, query, gallery)
        same_id = _Groups(gallery_ids)

    same_label = _Groups(gallery_labels)
    with torch.autocast(query.device.type, enabled=False):
        space = DISTANCES[distance](query, gallery)
        rows_at_once = max(1, min(block_size, MAX_BLOCK_ENTRIES // len(gallery)))
        totals: dict[str, Tensor] = {}
        answered = 0
        for start in range(0, len(query), rows_at_once):
            part = slice(start, start + rows_at_once)
            scores = space.query[part] @ space.gallery.t()
            if space.bias is not None:
                scores += space.bias
            if exclude_self:
                rows, is_self = same_id.find(query_ids[part])
                scores.scatter_add_(1, rows, torch.zeros_like(rows, dtype=scores.dtype).masked_fill(is_self, -np.inf))
            block = RankedBlock(scores, query_labels[part], gallery_labels, same_label, space.tie)
            answered += int((block.num_relevant > 0).sum())
            for metric in metrics:
                for name, values in METRIC_FUNCTIONS[metric](block, recall_at).items():
                    totals[name] = totals.get(name, 0) + values[block.num_relevant > 0].sum()

    left_out = len(query) - answered
    if answered == 0:
        raise ValueError(f'none of the {len(query)} queries has a positive in the gallery: nothing can be scored')
    if left_out:
        logging.getLogger('mmdml').warning(
            '%d of %d queries have no positive in the gallery and are left out', left_out, len(query)
        )
    return {name: float(total) / answered for name, total in totals.items()}


def _check_names(metrics: Sequence[str], recall_at: Sequence[int], distance: str, block_size: int) -> None:
    unknown = [name for name in metrics if name not in METRIC_FUNCTIONS]
    if unknown or not metrics:
        raise ValueError(f'unknown metrics {unknown}; known are {list(METRIC_FUNCTIONS)}')
    if distance not in DISTANCES:
        raise ValueError(f'unknown distance {distance!r}; known are {list(DISTANCES)}')
    if any(k != int(k) or k < 1 for k in recall_at):
        raise ValueError(f'recall_at must hold positive integers, got {tuple(recall_at)}')
    if block_size < 1:
        raise ValueError(f'block_size must be at least 1, got {block_size}')
