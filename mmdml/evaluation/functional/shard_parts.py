"""What each rank has of the queries and of the gallery, checked, and made comparable over the ranks."""

import hashlib
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from mmdml.dist import all_gather_object, gather_uneven, get_rank
from mmdml.functional.inputs import check_finite, to_keys, to_matrix

from .arguments import check_sides, resolve_exclude_self
from .options import SearchOptions
from .relevance import Relevance

# 128 bits: among a billion different strings, two share a digest with a probability of 1e-21.
_DIGEST_BYTES = 16
_COLUMNS = {'integers': 1, 'strings': _DIGEST_BYTES // 8}


class Facts(NamedTuple):
    """What a rank sends to the others about its part.

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


class Part(NamedTuple):
    """Rows and keys of this rank, by side: 'query' and 'gallery', the same where the queries search each other.

    Attributes:
        options: of the search.
        call: as in :class:`Facts`.
        sides: the embeddings.
        keys: side -> name -> ``(N,)`` int64 or strings; names that play no part are missing.
    """

    options: SearchOptions
    call: dict[str, Any]
    sides: dict[str, Tensor]
    keys: dict[str, dict[str, np.ndarray]]

    def facts(self) -> Facts:
        filled = {side: rows for side, rows in self.sides.items() if len(rows)}
        return Facts(
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


def read_part(
    options: SearchOptions,
    exclude_self: bool | None,
    rows: dict[str, Any],
    query_keys: dict[str, Any],
    gallery_keys: dict[str, Any],
    device: str | torch.device | None,
) -> Part:
    """All checks of one rank's arguments that need no other rank."""
    if options.backend != 'torch' or options.reranking is not None:
        raise ValueError('faiss and re-ranking need all rows at one place: gather them and call retrieval_scores')
    own_gallery = rows['gallery'] is None
    check_sides(own_gallery, query_keys, gallery_keys)

    query = to_matrix('query', rows['query'], device)
    check_finite('query', query)
    gallery = query
    if not own_gallery:
        gallery = to_matrix('gallery', rows['gallery'], query.device)
        check_finite('gallery', gallery)

    numbered = own_gallery and query_keys['ids'] is None
    ids_known = numbered or (query_keys['ids'] is not None and (own_gallery or gallery_keys['ids'] is not None))
    exclude_self = resolve_exclude_self(exclude_self, ids_known)
    # Ids that are numbers of rows wait until the other ranks' numbers are known.
    unused = {'ids'} if numbered or not exclude_self else set()

    keys = dict(query=_given('query', query_keys, len(query), unused))
    keys['gallery'] = keys['query'] if own_gallery else _given('gallery', gallery_keys, len(gallery), unused)
    call = {
        'gallery': 'none' if own_gallery else 'given',
        **options.as_dict(),
        'exclude_self': exclude_self,
        'keys': tuple(keys['query']),
        'numbered': numbered and exclude_self,
    }
    return Part(options, call, dict(query=query, gallery=gallery), keys)


def _given(side: str, keys: dict[str, Any], rows: int, unused: set[str]) -> dict[str, np.ndarray]:
    """Return the keys of one side that are there and needed."""
    given = {}
    for name, value in keys.items():
        if value is None or name in unused:
            continue
        # What has no entries has no type either: [] becomes a vector of floats.
        empty = rows == 0 and len(value) == 0
        given[name] = np.empty(0, np.int64) if empty else to_keys(f'{side}_{name}', value, rows)
    return given


def raise_together(error: Exception | None) -> None:
    """Raise the error of the first rank that has one on all ranks."""
    sent = None if error is None else (type(error).__name__, str(error))
    for number, found in enumerate(all_gather_object(sent)):
        if found is not None:
            kind, message = found
            known = {'ValueError': ValueError, 'TypeError': TypeError}
            if kind in known:
                raise known[kind](f'rank {number}: {message}') from error
            raise RuntimeError(f'rank {number}: {kind}: {message}') from error


def check_alike(calls: list[dict[str, Any]]) -> None:
    """All ranks must do the same, or some wait for ever."""
    for number, call in enumerate(calls):
        for name, value in call.items():
            if value != calls[0][name]:
                raise ValueError(
                    f'the ranks were called differently: {name} is {calls[0][name]!r} on rank 0 and '
                    f'{value!r} on rank {number}'
                )


def to_common_type(part: Part, facts: list[Facts]) -> tuple[Tensor, Tensor]:
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


def find_relevance(part: Part, facts: list[Facts], device: torch.device) -> Relevance | None:
    """Positives and junk in this rank's gallery of the queries of all ranks; None if the gallery has no rows."""
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


def _common_keys(part: Part, facts: list[Facts], name: str, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the keys of all ranks' queries and of this rank's gallery: int64 codes, equal where the keys are.

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
    queries = gather_uneven(_to_numbers(part.keys['query'][name], kind))
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
