"""Retrieval scores where every rank keeps its part of the gallery: ranks are counts, and counts over parts add up."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from .collectives import all_gather, all_gather_object, all_reduce, broadcast, gather_rows, get_rank, get_world_size
from .inputs import _keys, check_finite, to_matrix
from .measures import Measure, Ranks, parse_measures
from .ranks import (
    FAR,
    TIES,
    Depth,
    chunk_maxima,
    count_ahead,
    find_cut,
    find_thresholds,
    multiply,
    new_scores,
    to_ranks,
)
from .relevance import Answers, Relevance
from .retrieval import _ENTRIES_PER_POSITIVE, MAX_BLOCK_ENTRIES, NO_POSITIVE, Keys, _mean
from .spaces import DISTANCES, Space, exact_products

# 128 bits: among a billion different strings, two share a digest with a probability of 1e-21.
_DIGEST_BYTES = 16
_COLUMNS = {'integers': 1, 'strings': _DIGEST_BYTES // 8}


@torch.no_grad()
def sharded_retrieval_scores(
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
    query_groups: Keys | None = None,
    gallery_groups: Keys | None = None,
    distance: str = 'cosine',
    ties: str = 'pessimistic',
    no_positive: str = 'skip',
    block_size: int = 1024,
    device: str | torch.device | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, float]:
    """:func:`~mmdml.evaluation.functional.retrieval_scores` of rows that are spread over the ranks.

    Every rank calls this with its part of the queries and of the gallery, and gets the scores of all queries in the
    whole gallery: those of one process that has all rows. Rows may be split in any way, also unequally; no rank ever
    holds another's part of the gallery. Blocks of queries are sent to all ranks one after another, and

    1. every rank scores the block against its part, once;
    2. the positives' scores of all parts are put together, so that all ranks know from which scores on a negative
       stands before which positive;
    3. every rank counts the negatives in its part that do; the sum over the ranks gives the positives' ranks.

    Measures, ties, junk and half precision follow the rules of ``retrieval_scores``, less its faiss search and its
    re-ranking, which compares gallery rows with each other. What depends on all rows (the centre of 'euclidean', the
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
        recall_at: the K of 'Recall@K'.
        metrics: as in ``retrieval_scores``.
        exclude_self: whether gallery rows with the query's id are removed from its results. Default: if the ids of
            both sides are known, which they are where the queries search each other.
        query_ids: ``(Q_r,)`` ints or strings, comparable over the ranks. Default: positions among the rows of all
            ranks, where the queries search each other.
        gallery_ids: ``(G_r,)``, only with ``gallery``.
        query_groups: ``(Q_r,)`` ints or strings. Default: there is no junk.
        gallery_groups: ``(G_r,)``, needed with ``query_groups`` if there is a ``gallery``.
        distance: 'cosine', 'dot' or 'euclidean'.
        ties: 'pessimistic' or 'optimistic'.
        no_positive: 'skip' or 'miss'.
        block_size: queries scored at a time, fewer where the gallery is large; changes memory, not results.
        device: where to compute. Default: where ``query`` is.
        progress: called with (queries done, all queries) after each block, on the ranks that pass it.

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
        part = _part(
            dict(
                recall_at=recall_at,
                metrics=metrics,
                exclude_self=exclude_self,
                distance=distance,
                ties=ties,
                no_positive=no_positive,
                block_size=block_size,
            ),
            dict(query=query, gallery=gallery),
            dict(labels=query_labels, ids=query_ids, groups=query_groups),
            dict(labels=gallery_labels, ids=gallery_ids, groups=gallery_groups),
            device,
        )
    except Exception as raised:
        error = raised
    _raise_together(error)
    facts = all_gather_object(part.facts())
    _check_alike([fact.call for fact in facts])
    query, gallery = _to_common_type(part, facts)
    relevance = _relevance(part, facts, query.device)

    measures = parse_measures(metrics, recall_at)
    counts = [fact.rows['query'] for fact in facts]
    total = sum(counts)
    values = {measure.key: torch.zeros(total, dtype=torch.float64) for measure in measures}
    answered = torch.zeros(total, dtype=torch.bool)
    # All ranks must cut the queries into the same blocks, so the fullest part decides.
    widest = torch.tensor(relevance.largest_class() if relevance is not None else 0)
    all_reduce(widest)
    width = max(fact.rows['gallery'] for fact in facts) + _ENTRIES_PER_POSITIVE * int(widest)
    rows = max(1, min(block_size, max(counts), MAX_BLOCK_ENTRIES // width))
    with exact_products(query.device):
        space = DISTANCES[distance](query, gallery, gather_rows)
        del query, gallery, part  # the space has what is needed; copies that were made here go
        shard = _Shard(space.gallery, relevance, ties, measures, rows)
        done = 0
        for block, tie in _blocks(space, counts, rows):
            now = slice(done, done + len(block))
            found = shard.ranks(block, tie, now)
            answered[now] = found.num_relevant > 0
            for measure in measures:
                values[measure.key][now] = measure.values(found)
            done = now.stop
            if progress is not None:
                progress(done, total)

    # All ranks know all values; one of them speaks. Where there is nothing to say, all raise.
    nothing = no_positive == 'skip' and not answered.any()
    return all_gather_object(_mean(values, answered, no_positive) if nothing or get_rank() == 0 else None)[0]


class _Facts(NamedTuple):
    """What a rank tells the others about its part.

    Attributes:
        call: how it was called; must be the same on all ranks.
        rows: number of 'query' and 'gallery' rows.
        widths: dimensions of both; only of those with rows.
        dtypes: types of those with rows.
        kinds: of the keys with rows, by ('query', 'labels') and the like: 'integers' or 'strings'.
    """

    call: dict[str, Any]
    rows: dict[str, int]
    widths: dict[str, int]
    dtypes: list[torch.dtype]
    kinds: dict[tuple[str, str], str]


class _Part(NamedTuple):
    """Rows and keys of this rank, by side: 'query' and 'gallery', the same where the queries search each other.

    Attributes:
        call: as in :class:`_Facts`.
        sides: the embeddings.
        keys: side -> name -> ``(N,)`` int64 or strings; names that play no part are missing.
    """

    call: dict[str, Any]
    sides: dict[str, Tensor]
    keys: dict[str, dict[str, np.ndarray]]

    def facts(self) -> _Facts:
        filled = {side: rows for side, rows in self.sides.items() if len(rows)}
        return _Facts(
            self.call,
            {side: len(rows) for side, rows in self.sides.items()},
            {side: rows.shape[1] for side, rows in filled.items()},
            [rows.dtype for rows in filled.values()],
            {
                (side, name): 'strings' if keys.dtype.kind == 'U' else 'integers'
                for side in filled
                for name, keys in self.keys[side].items()
            },
        )


def _part(
    options: dict[str, Any],
    rows: dict[str, Any],
    query_keys: dict[str, Any],
    gallery_keys: dict[str, Any],
    device: str | torch.device | None,
) -> _Part:
    """All checks of one rank's arguments that need no other rank."""
    parse_measures(options['metrics'], options['recall_at'])
    for name, known in (('distance', DISTANCES), ('ties', TIES), ('no_positive', NO_POSITIVE)):
        if options[name] not in known:
            raise ValueError(f'unknown {name} {options[name]!r}; known are {list(known)}')
    if options['block_size'] < 1:
        raise ValueError(f'block_size must be at least 1, got {options["block_size"]}')

    own_gallery = rows['gallery'] is None
    if own_gallery:
        for name, value in gallery_keys.items():
            if value is not None:
                raise ValueError(f'gallery_{name} were given without a gallery')
    elif gallery_keys['labels'] is None:
        raise ValueError('a gallery needs gallery_labels')
    elif (query_keys['groups'] is None) != (gallery_keys['groups'] is None):
        raise ValueError('query_groups and gallery_groups must be given together: junk is what both sides share')

    query = to_matrix('query', rows['query'], device)
    check_finite('query', query)
    gallery = query
    if not own_gallery:
        gallery = to_matrix('gallery', rows['gallery'], query.device)
        check_finite('gallery', gallery)

    numbered = own_gallery and query_keys['ids'] is None
    ids_known = numbered or (query_keys['ids'] is not None and (own_gallery or gallery_keys['ids'] is not None))
    exclude_self = ids_known if options['exclude_self'] is None else options['exclude_self']
    if exclude_self and not ids_known:
        raise ValueError('exclude_self needs query_ids and gallery_ids: which gallery row is the query itself?')
    # Ids that are numbers of rows wait until the other ranks' numbers are known.
    unused = {'ids'} if numbered or not exclude_self else set()

    keys = dict(query=_given('query', query_keys, len(query), unused))
    keys['gallery'] = keys['query'] if own_gallery else _given('gallery', gallery_keys, len(gallery), unused)
    call = {
        'gallery': 'none' if own_gallery else 'given',
        **options,
        'recall_at': tuple(options['recall_at']),
        'metrics': tuple(options['metrics']),
        'exclude_self': exclude_self,
        'keys': tuple(keys['query']),
        'numbered': numbered and exclude_self,
    }
    return _Part(call, dict(query=query, gallery=gallery), keys)


def _given(side: str, keys: dict[str, Any], rows: int, unused: set[str]) -> dict[str, np.ndarray]:
    """The keys of one side that are there and needed."""
    given = {}
    for name, value in keys.items():
        if value is None or name in unused:
            continue
        # What has no entries has no type either: [] becomes a vector of floats.
        empty = rows == 0 and len(value) == 0
        given[name] = np.empty(0, np.int64) if empty else _keys(f'{side}_{name}', value, rows)
    return given


def _raise_together(error: Exception | None) -> None:
    """Raise the error of the first rank that has one on all ranks."""
    told = None if error is None else (type(error).__name__, str(error))
    for number, found in enumerate(all_gather_object(told)):
        if found is not None:
            kind, message = found
            known = {'ValueError': ValueError, 'TypeError': TypeError}
            if kind in known:
                raise known[kind](f'rank {number}: {message}') from error
            raise RuntimeError(f'rank {number}: {kind}: {message}') from error


def _check_alike(calls: list[dict[str, Any]]) -> None:
    """All ranks must do the same, or some wait for ever."""
    for number, call in enumerate(calls):
        for name, value in call.items():
            if value != calls[0][name]:
                raise ValueError(
                    f'the ranks were called differently: {name} is {calls[0][name]!r} on rank 0 and '
                    f'{value!r} on rank {number}'
                )


def _to_common_type(part: _Part, facts: list[_Facts]) -> tuple[Tensor, Tensor]:
    """Query and gallery of this rank in the one type and width that all ranks have; the same tensor if they are."""
    if not any(fact.rows['gallery'] for fact in facts):
        raise ValueError('the gallery is empty on all ranks: there is nothing to search')
    if not any(fact.rows['query'] for fact in facts):
        raise ValueError('there are no queries on any rank')
    widths = {
        f'{side} on rank {number}': width for number, fact in enumerate(facts) for side, width in fact.widths.items()
    }
    width = next(iter(widths.values()))
    if set(widths.values()) != {width}:
        raise ValueError(f'embeddings must have equally many dimensions on all ranks, got {widths}')
    dtype = torch.float64 if any(torch.float64 in fact.dtypes for fact in facts) else torch.float32

    def common(rows: Tensor) -> Tensor:
        return rows.to(dtype) if len(rows) else rows.new_empty(0, width, dtype=dtype)

    query, gallery = part.sides['query'], part.sides['gallery']
    own = common(query)
    return own, own if gallery is query else common(gallery)


def _relevance(part: _Part, facts: list[_Facts], device: torch.device) -> Relevance | None:
    """Who answers whom, of the queries of all ranks in this rank's gallery; None if that has no rows."""
    counts = [fact.rows['query'] for fact in facts]
    keys = {name: _common_keys(part, facts, name, device) for name in part.keys['query']}
    if part.call['numbered']:
        start = sum(counts[: get_rank()])
        keys['ids'] = (
            torch.arange(sum(counts), device=device),
            torch.arange(start, start + counts[get_rank()], device=device),
        )
    if len(part.sides['gallery']) == 0:
        return None
    return Relevance(*keys['labels'], keys.get('ids'), keys.get('groups'))


def _common_keys(part: _Part, facts: list[_Facts], name: str, device: torch.device) -> tuple[Tensor, Tensor]:
    """The keys of the queries of all ranks, and those of this rank's gallery: int64 codes, equal where the keys are.

    Raises:
        TypeError: if some are integers and others strings, on any rank.
    """
    kinds = {
        f'{side}_{key} on rank {number}': kind
        for number, fact in enumerate(facts)
        for (side, key), kind in fact.kinds.items()
        if key == name
    }
    kind = next(iter(kinds.values()))
    if set(kinds.values()) != {kind}:
        raise TypeError(f'{name} must be all integers or all strings, got {kinds}: nothing would match')
    queries = gather_rows(_to_numbers(part.keys['query'][name], kind))
    gallery = _to_numbers(part.keys['gallery'][name], kind)
    codes = torch.cat([queries, gallery])
    if codes.shape[1] > 1:
        codes = torch.from_numpy(np.unique(codes.numpy(), axis=0, return_inverse=True)[1].reshape(-1, 1))
    codes = codes[:, 0].to(device)
    return codes[: len(queries)], codes[len(queries) :]


def _to_numbers(keys: np.ndarray, kind: str) -> Tensor:
    """``(N, 1)`` the integers, or ``(N, 2)`` digests of the strings: what all ranks can compare, of one length."""
    if len(keys) == 0:
        return torch.empty(0, _COLUMNS[kind], dtype=torch.int64)
    if kind == 'integers':
        return torch.from_numpy(keys)[:, None]
    texts, number = np.unique(keys, return_inverse=True)
    digests = b''.join(
        hashlib.blake2b(text.encode('utf-8', 'surrogatepass'), digest_size=_DIGEST_BYTES).digest() for text in texts
    )
    return torch.from_numpy(np.frombuffer(digests, np.int64).reshape(len(texts), -1)[number.reshape(-1)])


def _blocks(space: Space, counts: list[int], rows: int) -> Iterator[tuple[Tensor, Tensor]]:
    """The queries of all ranks and their ties in their order, some at a time, on every rank."""
    for source, count in enumerate(counts):
        for start in range(0, count, rows):
            size = min(rows, count - start)
            block, tie = (
                values[start : start + size] if source == get_rank() else values.new_empty(size, values.shape[1])
                for values in (space.query, space.tie)
            )
            broadcast(block, source)
            broadcast(tie, source)
            yield block, tie


class _Shard:
    """A rank's part of the gallery, and the positives' ranks in the whole.

    Args:
        gallery: ``(G_r, D)`` of this rank.
        relevance: of the queries of all ranks in this gallery; None if that has no rows.
        ties: 'pessimistic' or 'optimistic'.
        measures: what is computed from the ranks.
        rows: most queries at a time.
    """

    def __init__(
        self, gallery: Tensor, relevance: Relevance | None, ties: str, measures: Iterable[Measure], rows: int
    ) -> None:
        self.gallery = gallery
        self.relevance = relevance
        self.ties = ties
        self.measures = list(measures)
        self.buffer = new_scores(rows, gallery)

    def ranks(self, block: Tensor, tie: Tensor, part: slice) -> Ranks:
        """Ranks of the positives of a block of queries, the same on all ranks.

        Args:
            block: ``(Q, D)``, the same on all ranks.
            tie: ``(Q, 1)``, the same on all ranks.
            part: its place among all queries.
        """
        scores = multiply(block, self.gallery, self.buffer)
        positives = _merge_columns(self._take_positives(scores, part))
        # From here on scores holds negatives only.
        num_relevant = (positives > FAR).sum(1)
        most = int(num_relevant.max())
        thresholds = find_thresholds(positives, tie, self.ties)[:, : max(most, 1)].contiguous()

        maxima = chunk_maxima(scores)
        cut = find_cut(thresholds, maxima, Depth.of(self.measures, most))
        # What is too deep in one part is too deep in the whole.
        all_reduce(cut, 'MAX')
        counts = count_ahead(scores, maxima, thresholds, cut)
        ranks = to_ranks(counts, thresholds, cut, num_relevant).ranks
        all_reduce(ranks)
        # A rank is a count of negatives and of positives, and every part has counted the same positives.
        again = (get_world_size() - 1) * torch.arange(1, ranks.shape[1] + 1)
        return Ranks(ranks - again, num_relevant.cpu())

    def _take_positives(self, scores: Tensor, part: slice) -> Tensor:
        """``(Q, P)`` scores of the positives in this part, -inf for padding; what is no negative becomes -inf."""
        if self.relevance is None:
            return scores[:, :0]
        answers: Answers = self.relevance.of(part)
        positives = scores.gather(1, answers.columns).masked_fill(~answers.relevant, FAR)
        for columns, used in ((answers.columns, answers.same_label), (answers.hidden, answers.is_hidden)):
            # Padding may repeat a column: -inf is added (0 there), not written.
            taken = torch.zeros_like(columns, dtype=scores.dtype).masked_fill(used, FAR)
            scores.scatter_add_(1, columns, taken)
        return positives


def _merge_columns(scores: Tensor) -> Tensor:
    """The columns of all ranks side by side; -inf fills up what is missing."""
    width = torch.tensor(scores.shape[1])
    all_reduce(width, 'MAX')
    padded = torch.nn.functional.pad(scores, (0, int(width) - scores.shape[1]), value=FAR)
    return torch.cat(all_gather(padded.contiguous()), 1)
