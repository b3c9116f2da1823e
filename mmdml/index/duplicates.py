"""Pictures that a store holds twice, and those that two stores share."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mmdml.index.vector_store import Row, VectorStore

# Rows that are searched at a time, and neighbors of each that are looked at.
_BLOCK, _NEIGHBORS = 1024, 20


@dataclass(frozen=True)
class Pair:
    """Two rows that are alike.

    Attributes:
        first: a row.
        second: another row, of another store where two are compared.
        score: cosine similarity in -1..1.
        same: whether the contents have the same hash.
    """

    first: Row
    second: Row
    score: float
    same: bool


def shared_pictures(
    first: VectorStore,
    second: VectorStore,
    near: float,
    progress: Callable[[int], None] = lambda done: None,
) -> list[Pair]:
    """Return pairs of rows with the same content, or a similarity of at least ``near``, best first.

    Args:
        first: a store.
        second: another store of the same model, or the same one, whose rows are then compared with each other, each
            pair once.
        near: least cosine similarity, above 0; 1 or more for the same content alone. At most 20 neighbors of a row are
            looked at.
        progress: takes the number of rows that were searched by.

    Raises:
        ValueError: the stores are those of two models, or ``near`` is 0 or less.
    """
    if (first.model_hash, first.dimensions) != (second.model_hash, second.dimensions):
        raise ValueError('the stores hold vectors of two models, which cannot be compared; index one of them anew')
    if not near > 0:
        raise ValueError(f'near={near} must be above 0; it is a cosine similarity')
    ours = {row.id: row for row in first.rows()}
    theirs = ours if first is second else {row.id: row for row in second.rows()}
    pairs = {key: None for key in _same_content(ours, theirs)}
    if near < 1:
        pairs.update(_similar(first, second, list(ours), near, progress))
    scored = _with_scores(first, second, list(pairs))
    found = [
        Pair(ours[a], theirs[b], score, bool(ours[a].item.content_hash) and _content(ours[a]) == _content(theirs[b]))
        for (a, b), score in zip(pairs, scored, strict=True)
        if a in ours and b in theirs and (first is not second or a < b)
    ]
    return sorted(found, key=lambda pair: (-pair.same, -pair.score, pair.first.id, pair.second.id))


def groups(pairs: list[Pair]) -> list[list[Row]]:
    """Return rows that pairs of one store connect, in groups by size, largest first, each by id."""
    rows = {row.id: row for pair in pairs for row in (pair.first, pair.second)}
    parent = {number: number for number in rows}

    def root(number: int) -> int:
        while parent[number] != number:
            parent[number] = number = parent[parent[number]]
        return number

    for pair in pairs:
        parent[root(pair.first.id)] = root(pair.second.id)
    found: dict[int, list[Row]] = {}
    for number in sorted(rows):
        found.setdefault(root(number), []).append(rows[number])
    return sorted(found.values(), key=lambda group: (-len(group), group[0].id))


def _content(row: Row) -> tuple[int, str]:
    return row.item.size, row.item.content_hash


def _same_content(ours: dict[int, Row], theirs: dict[int, Row]) -> list[tuple[int, int]]:
    """Pairs of ids; of rows with one content in one store, each with the first."""
    first_of: dict[tuple[int, str], int] = {}
    for id, row in theirs.items():
        if row.item.content_hash:
            first_of.setdefault(_content(row), id)
    pairs = []
    for id, row in ours.items():
        other = first_of.get(_content(row))
        if other is not None and not (ours is theirs and id == other):
            pairs.append((min(id, other), max(id, other)) if ours is theirs else (id, other))
    return pairs


def _similar(
    first: VectorStore, second: VectorStore, ids: list[int], near: float, progress: Callable[[int], None]
) -> dict[tuple[int, int], None]:
    pairs: dict[tuple[int, int], None] = {}
    for start in range(0, len(ids), _BLOCK):
        part = np.array(ids[start : start + _BLOCK])
        found = second.search(first.vectors(part), _NEIGHBORS + (first is second))
        query, column = np.nonzero((found.scores >= near) & (found.ids >= 0))
        for a, b in zip(part[query].tolist(), found.ids[query, column].tolist(), strict=True):
            if first is not second:
                pairs[a, b] = None
            elif a != b:
                pairs[min(a, b), max(a, b)] = None
        progress(start + len(part))
    return pairs


def _with_scores(first: VectorStore, second: VectorStore, pairs: list[tuple[int, int]]) -> list[float]:
    scores: list[float] = []
    for start in range(0, len(pairs), _BLOCK):
        ours, theirs = zip(*pairs[start : start + _BLOCK], strict=True)
        products = np.einsum('nd,nd->n', first.vectors(ours), second.vectors(theirs))
        scores += np.clip(products, -1, 1).tolist()
    return scores
