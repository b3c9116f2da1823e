"""Sheets of queries with what they found, and of classes that are taken for each other."""

from collections import Counter
from collections.abc import Callable

import numpy as np

from mmdml.utils.seeding import Stream, numpy_generator
from mmdml.visualization.neighbors import SearchedRows
from mmdml.visualization.tiles import QUERY, RIGHT, WRONG, sheet, tile

#: Returns the picture of a row, RGB, or None where there is none.
Pictures = Callable[[int], np.ndarray | None]


def choose_queries(searched: SearchedRows, number: int, seed: int) -> np.ndarray:
    """Random queries, of as many classes as there are."""
    random = numpy_generator(Stream.PICTURES, seed)
    order = random.permutation(searched.query)
    labels, seen, ranks = searched.facts.labels[order], Counter(), []
    for label in labels.tolist():
        ranks.append(seen[label])
        seen[label] += 1
    # All first ones of a class come before all second ones.
    return order[np.argsort(ranks, kind='stable')][:number]


def worst_queries(searched: SearchedRows, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the queries whose first positive has the highest ranks, and those ranks."""
    ranks = searched.first_ranks()
    order = np.argsort(np.where(np.isnan(ranks), 0, -ranks), kind='stable')
    order = order[: min(number, int((~np.isnan(ranks)).sum()))]
    return searched.query[order], ranks[order].round().astype(int)


def retrieval_sheet(
    searched: SearchedRows,
    query: np.ndarray,
    pictures: Pictures,
    k: int = 8,
    title: str = '',
    notes: list[str] | None = None,
) -> np.ndarray:
    """Draw queries with their k nearest rows: green and ✓ for the query's class, red and ✗ for another.

    Args:
        searched: the test set.
        query: ``(q,)`` rows, at least one.
        pictures: of the rows.
        k: neighbors.
        title: above the sheet.
        notes: one line a query, above its row.
    """
    scores, rows = searched.nearest(query, k)
    right, names = searched.right(query, rows), searched.names
    lines = []
    for number, row in enumerate(query.tolist()):
        line = [tile(pictures(row), ['query', names[row]], QUERY, 4)]
        for score, found, good in zip(scores[number], rows[number].tolist(), right[number], strict=True):
            if found >= 0:
                text = [f'{"✓" if good else "✗"} {score:.2f}', names[found]]
                line.append(tile(pictures(found), text, RIGHT if good else WRONG, 4))
        lines.append(line)
    return sheet(lines, title, notes or ())


def confusions(searched: SearchedRows) -> list[tuple[object, object, list[tuple[int, int]]]]:
    """Pairs of classes of which one is taken for the other, the most frequent first.

    Returns:
        Class of the queries, class of their nearest rows, and the ``(query, nearest row)``, best match first.
    """
    scores, rows = searched.first_matches
    found: dict[tuple, list[tuple[float, int, int]]] = {}
    labels = searched.facts.labels
    for query, row, score in zip(searched.query.tolist(), rows.tolist(), scores.tolist(), strict=True):
        if row >= 0 and labels[query] != labels[row]:
            found.setdefault((labels[query], labels[row]), []).append((-score, query, row))
    pairs = [(*key, [each[1:] for each in sorted(cases)]) for key, cases in found.items()]
    return sorted(pairs, key=lambda pair: -len(pair[2]))


def confusion_sheet(
    searched: SearchedRows, pictures: Pictures, number: int = 8, examples: int = 3
) -> np.ndarray | None:
    """Draw the classes that are taken for each other most often, a row a pair; None where all queries are right."""
    names, sizes = searched.names, Counter(searched.facts.labels[searched.query].tolist())
    rows, notes = [], []
    for label, _, cases in confusions(searched)[:number]:
        row = []
        for query, found in cases[:examples]:
            row.append(tile(pictures(query), ['query', names[query]], QUERY, 4))
            row.append(tile(pictures(found), ['✗ nearest', names[found]], WRONG, 4))
        rows.append(row)
        first, second = names[cases[0][0]], names[cases[0][1]]
        notes.append(f'{len(cases)} of {sizes[label]} queries of “{first}” find “{second}” first')
    return sheet(rows, 'Classes that are taken for each other', notes) if rows else None
