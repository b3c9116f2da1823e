"""Retrieval scores in blocks of queries: exact, and never an N x N matrix."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmdml.functional.distances import DISTANCES
from mmdml.functional.exact_products import exact_products
from mmdml.functional.inputs import encode, to_sides

from .arguments import Keys, check_sides, resolve_exclude_self
from .options import SearchOptions
from .query_values import QueryValues, rows_per_block
from .relevance import Relevance
from .searches import SEARCHES, RerankedSearch


@torch.no_grad()
def retrieval_scores(
    query: Tensor | np.ndarray,
    query_labels: Keys,
    gallery: Tensor | np.ndarray | None = None,
    gallery_labels: Keys | None = None,
    *,
    exclude_self: bool | None = None,
    query_ids: Keys | None = None,
    gallery_ids: Keys | None = None,
    query_groups: Keys | None = None,
    gallery_groups: Keys | None = None,
    device: str | torch.device | None = None,
    progress: Callable[[int, int], None] | None = None,
    options: SearchOptions | None = None,
    **settings: Any,
) -> dict[str, float]:
    r"""Recall@K, MAP@R, R-precision, mAP and their kin for queries searched in a gallery.

    With R the number of positives of a query in the gallery, :math:`\mathrm{rel}_i` whether rank i holds one, and
    :math:`P_i = \frac{1}{i} \sum_{j \le i} \mathrm{rel}_j` the precision at i, averaged over queries:

    .. math::
        \mathrm{Recall@}K &= \mathrm{CMC@}K = 1[\exists i \le K: \mathrm{rel}_i] \\
        \mathrm{RP} &= P_R \\
        \mathrm{MAP@}R &= \frac{1}{R} \sum_{i \le R} \mathrm{rel}_i P_i \\
        \mathrm{mAP} &= \frac{1}{R} \sum_{i} \mathrm{rel}_i P_i \\
        \mathrm{mAP@}K &= \frac{1}{\min(R, K)} \sum_{i \le K} \mathrm{rel}_i P_i \\
        \mathrm{Precision@}K &= P_K \\
        \mathrm{MRR} &= 1 / \min \{i: \mathrm{rel}_i\} \\
        \mathrm{mINP} &= R / \max \{i: \mathrm{rel}_i\} \\
        \mathrm{IRRecall@}K &= \frac{1}{R} \sum_{i \le K} \mathrm{rel}_i \\
        \mathrm{NDCG@}K &= \sum_{i \le K} \frac{\mathrm{rel}_i}{\log_2 (i + 1)} \Big/
            \sum_{i \le \min(R, K)} \frac{1}{\log_2 (i + 1)}

    MAP@R and RP: Musgrave et al., ECCV 2020. mAP and CMC with junk: Zheng et al., ICCV 2015 (Market-1501); CMC@K is
    not the single-gallery-shot CMC of CUHK03. IRRecall@K: Manning et al., 2008, Sec. 8.3. mINP: Ye et al., TPAMI 2021.
    NDCG: Jarvelin and Kekalainen, ACM TOIS 2002; with graded relevance
    :func:`~mmdml.evaluation.functional.graded_ndcg`. Precision@K divides by K even where the gallery is smaller.
    Every measure is a function of the positives' ranks, and a rank is a count of larger scores.

    Rules:
        - Scores tie only if they are equal. 'pessimistic': negatives come first, so that ties never flatter;
          'optimistic': positives do. What is closer than the rounding of fp32 products is compared in fp64
          (:mod:`mmdml.functional.distances`): equal embeddings tie whatever the block, the order or the device. fp64
          embeddings are compared in fp64 throughout. Where the two rules differ by more than 0.1 % the log says so.
        - A query is kept from finding itself by its id, not by its rank.
        - With groups (camera, sequence), gallery rows of the query's label *and* group are junk: neither positives
          nor negatives, as in Market-1501.
        - Queries without a positive are left out and counted in the log; ``no_positive='miss'`` scores them 0.

    Args:
        query: ``(Q, D)`` embeddings, of any norm.
        query_labels: ``(Q,)`` int64 values or strings.
        gallery: ``(G, D)`` embeddings. Default: every query searches all the others.
        gallery_labels: ``(G,)``, needed with ``gallery``.
        exclude_self: whether gallery rows with the query's id are removed from its results. Default: if the ids of
            both sides are known, which they are where the queries search each other.
        query_ids: ``(Q,)`` ints or strings. Default: ``arange(Q)`` where the queries search each other.
        gallery_ids: ``(G,)``, only with ``gallery``.
        query_groups: ``(Q,)`` ints or strings. Default: there is no junk.
        gallery_groups: ``(G,)``, needed with ``query_groups`` if there is a ``gallery``.
        device: where to compute. Default: where ``query`` is. faiss: always the CPU.
        progress: called with (queries done, all queries) after each block, as
            :class:`~mmdml.evaluation.functional.LogProgress`.
        options: how to search and what to measure. Default: those of :class:`SearchOptions`.
        settings: single options by name, such as ``metrics=('mAP',)``; they go before ``options``.

    Returns:
        Fractions in [0, 1] by name: 'Recall@1', ..., 'MAP@R', 'RP', in the order of the options.

    Raises:
        ValueError: if shapes do not fit, the gallery is empty, embeddings are not finite, an option is out of range, or
            no query has a positive (with ``no_positive='skip'``).
        TypeError: if labels, ids or groups are neither integers nor strings, or an option is unknown.
    """
    options = SearchOptions.of(options, settings)
    values = retrieval_values(
        *(query, query_labels, gallery, gallery_labels),
        exclude_self=exclude_self,
        query_ids=query_ids,
        gallery_ids=gallery_ids,
        query_groups=query_groups,
        gallery_groups=gallery_groups,
        device=device,
        progress=progress,
        options=options,
    )
    return values.means(options.no_positive)


@torch.no_grad()
def retrieval_values(
    query: Tensor | np.ndarray,
    query_labels: Keys,
    gallery: Tensor | np.ndarray | None = None,
    gallery_labels: Keys | None = None,
    *,
    exclude_self: bool | None = None,
    query_ids: Keys | None = None,
    gallery_ids: Keys | None = None,
    query_groups: Keys | None = None,
    gallery_groups: Keys | None = None,
    device: str | torch.device | None = None,
    progress: Callable[[int, int], None] | None = None,
    options: SearchOptions | None = None,
    **settings: Any,
) -> QueryValues:
    """Return the values of every query; :func:`retrieval_scores` returns their means and has the same arguments.

    Returns:
        Values of all measures by query, which also have means by class.

    Raises:
        ValueError, TypeError: as :func:`retrieval_scores`, but not for queries without a positive.
    """
    options = SearchOptions.of(options, settings)
    own_gallery = gallery is None
    check_sides(
        own_gallery,
        dict(labels=query_labels, ids=query_ids, groups=query_groups),
        dict(labels=gallery_labels, ids=gallery_ids, groups=gallery_groups),
    )
    if own_gallery and query_ids is None:
        query_ids = np.arange(len(query))
    ids_known = query_ids is not None and (own_gallery or gallery_ids is not None)
    exclude_self = resolve_exclude_self(exclude_self, ids_known)

    query, gallery = to_sides(query, gallery, 'cpu' if options.backend == 'faiss' else device)
    labels = encode('labels', query_labels, gallery_labels, query, gallery)
    ids = encode('ids', query_ids, gallery_ids, query, gallery) if exclude_self else None
    groups = None if query_groups is None else encode('groups', query_groups, gallery_groups, query, gallery)
    relevance = Relevance(*labels, ids, groups)

    number = len(query)
    values = QueryValues(
        options.measures, options.ties, relevance.num_relevant, relevance.same_label, relevance.num_own
    )
    rows = rows_per_block(options.block_size, number, len(gallery), relevance.largest_class())
    with exact_products(query.device):
        space = DISTANCES[options.distance](query, gallery)
        build = SEARCHES[options.backend]
        if options.reranking is not None:
            build = partial(
                RerankedSearch, query=query, distance=options.distance, own_gallery=own_gallery, **options.reranking
            )
        search = build(space, relevance, options.measures, rows)
        # Queries of classes of one size together: a block is as wide as its largest class.
        order = relevance.num_relevant.argsort(stable=True) if search.any_order else torch.arange(number)
        done = 0
        for part in order.to(query.device).split(rows):
            found = search.ranks(query[part], part)
            values.put(part.cpu(), found.pessimistic, found.optimistic)
            done += len(part)
            if progress is not None:
                progress(done, number)
    return values
