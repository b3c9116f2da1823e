"""Retrieval scores where every rank keeps its part of the gallery: ranks are counts, and counts over parts add up."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmdml.dist import all_gather, all_gather_object, all_reduce, broadcast, gather_uneven, get_rank, get_world_size
from mmdml.functional.distances import DISTANCES
from mmdml.functional.exact_products import exact_products

from .arguments import Keys
from .matrix_search import MatrixSearch
from .options import SearchOptions
from .query_values import QueryValues, rows_per_block
from .ranks import FAR, OneProcess
from .shard_parts import check_alike, find_relevance, raise_together, read_part, to_common_type


@torch.no_grad()
def sharded_retrieval_scores(
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
    """:func:`~mmdml.evaluation.functional.retrieval_scores` of rows that are spread over the ranks.

    Every rank calls this with its part of the queries and of the gallery, and gets the scores of all queries in the
    whole gallery: those of one process that has all rows. Rows may be split in any way, also unequally; no rank ever
    holds another's part of the gallery. Blocks of queries are sent to all ranks one after another, and

    1. every rank scores the block against its part, once;
    2. the positives' scores of all parts are put together, so that all ranks have the scores from which on a negative
       stands before which positive;
    3. every rank counts the negatives in its part that do; the sum over the ranks gives the positives' ranks.

    Measures, ties, junk and half precision follow the rules of ``retrieval_scores``, less its faiss search and its
    re-ranking, which compares gallery rows with each other. What depends on all rows (the center of 'euclidean', the
    norm that scales its ties and those of 'dot') is taken over all ranks.

    Every image must be in the parts once: rows that several ranks hold count as different images, which find each
    other unless they share an id. Drop what a sampler has added to make the parts equal.

    Without ``torch.distributed`` the part is everything.

    Args:
        query: ``(Q_r, D)`` embeddings of this rank. A rank may have none; ``(0, 0)`` does then.
        query_labels: ``(Q_r,)`` int64 values or strings; empty where there are no rows, as all keys.
        gallery: ``(G_r, D)`` embeddings of this rank, possibly none. Default, on all ranks: every query searches all
            the others of all ranks.
        gallery_labels: ``(G_r,)``, needed with ``gallery``.
        exclude_self: whether gallery rows with the query's id are removed from its results. Default: if the ids of
            both sides are known, which they are where the queries search each other.
        query_ids: ``(Q_r,)`` ints or strings, comparable over the ranks. Default: positions among the rows of all
            ranks, where the queries search each other.
        gallery_ids: ``(G_r,)``, only with ``gallery``.
        query_groups: ``(Q_r,)`` ints or strings. Default: there is no junk.
        gallery_groups: ``(G_r,)``, needed with ``query_groups`` if there is a ``gallery``.
        device: where to compute. Default: where ``query`` is.
        progress: called with (queries done, all queries) after each block, on the ranks that pass it.
        options: how to search and what to measure, without ``reranking`` and with ``backend='torch'``.
        settings: single options by name; they go before ``options``.

    Returns:
        Fractions in [0, 1] by name, the same on every rank.

    Raises:
        ValueError, TypeError: as ``retrieval_scores``, on all ranks alike, naming the rank whose rows are at fault and
            their positions in its part.
        ValueError: if the ranks were called with different options, or with embeddings of different width.

    Example:
        >>> mine = slice(get_rank(), None, get_world_size())
        >>> sharded_retrieval_scores(embeddings[mine], labels[mine])
    """
    part, error = None, None
    # Whatever goes wrong with one rank's rows, the others must learn of it: they would wait for this rank.
    try:
        part = read_part(
            SearchOptions.of(options, settings),
            exclude_self,
            dict(query=query, gallery=gallery),
            dict(labels=query_labels, ids=query_ids, groups=query_groups),
            dict(labels=gallery_labels, ids=gallery_ids, groups=gallery_groups),
            device,
        )
    except Exception as raised:
        error = raised
    raise_together(error)
    facts = all_gather_object(part.facts())
    check_alike([fact.call for fact in facts])
    query, gallery = to_common_type(part, facts)
    relevance = find_relevance(part, facts, query.device)

    options = part.options
    counts = [fact.rows['query'] for fact in facts]
    total = sum(counts)
    # All ranks must cut the queries into the same blocks, so the fullest part decides.
    widest = torch.tensor(relevance.largest_class() if relevance is not None else 0)
    all_reduce(widest)
    rows = rows_per_block(options.block_size, max(counts), max(fact.rows['gallery'] for fact in facts), int(widest))
    known = torch.zeros(3, total, dtype=torch.int64)
    if relevance is not None:
        known = torch.stack([relevance.num_relevant, relevance.same_label, relevance.num_own]).cpu()
    all_reduce(known)
    values = QueryValues(options.measures, options.ties, *known)
    with exact_products(query.device):
        space = DISTANCES[options.distance](query, gallery, gather_uneven)
        search = MatrixSearch(space, relevance, options.measures, rows, _AllRanks())
        for now, block in _blocks(query, counts, rows):
            found = search.ranks(block, now.to(query.device))
            values.put(now, found.pessimistic, found.optimistic)
            if progress is not None:
                progress(int(now[-1]) + 1, total)
    # All ranks have all values, and all raise where there are none; one of them logs.
    return values.means(options.no_positive, silent=get_rank() > 0)


def _blocks(query: Tensor, counts: list[int], rows: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Numbers and embeddings of the queries of all ranks in their order, some at a time, on every rank."""
    done = 0
    for source, count in enumerate(counts):
        for start in range(0, count, rows):
            size = min(rows, count - start)
            own = source == get_rank()
            block = query[start : start + size].clone() if own else query.new_empty(size, query.shape[1])
            broadcast(block, source)
            yield torch.arange(done, done + size), block
            done += size


class _AllRanks(OneProcess):
    """The gallery is spread over the ranks."""

    def merge(self, scores: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
        """As :meth:`OneProcess.merge`; -inf fills up what is missing."""
        width = torch.tensor(scores.shape[1])
        all_reduce(width, 'MAX')
        missing = (0, int(width) - scores.shape[1])
        found = all_gather(torch.nn.functional.pad(scores, missing, value=FAR).contiguous())
        own = torch.nn.functional.pad(columns, missing, value=-1)
        places = [own if rank == get_rank() else torch.full_like(own, -1) for rank in range(get_world_size())]
        return torch.cat(found, 1), torch.cat(places, 1)

    def largest(self, values: Tensor) -> Tensor:
        """As :meth:`OneProcess.largest`."""
        values = values.clone()
        all_reduce(values, 'MAX')
        return values

    def sum(self, values: Tensor) -> Tensor:
        """As :meth:`OneProcess.sum`."""
        values = values.clone()
        all_reduce(values)
        return values
