"""Gains and scores inside sentences, by the marks that name them."""

from typing import Any

from paired_scores import METRICS, Partner, Scores, compare_means, mean_over, sets_of

SIDES = ('base', 'arm')


def interval(bounds: tuple[float, float] | None) -> str:
    """Write an interval."""
    return '' if bounds is None else f'[{bounds[0]:+.2f}, {bounds[1]:+.2f}]'


def means(base: dict[Partner, float], arm: dict[Partner, float]) -> list[str]:
    """Means of base and arm over the seeds that both have on one machine."""
    shared = base.keys() & arm.keys()
    return [f'{sum(column[each] for each in shared) / len(shared):.2f}' for column in (base, arm)]


def gain_of(which: str, definitions: dict[str, Any], scores: Scores) -> str:
    """Write the gain of a row as part of a sentence.

    Raises:
        ValueError: for a comparison, row or metric that is not there.
    """
    comparison, row, metric, where = _named(which, definitions)
    sets = _sets(which, where, comparison, scores)
    found = compare_means(scores, metric, sets, row['base'], row['arm'])
    if found is None:
        return 'not run'
    return f'{found.mean:+.2f}{" " * bool(found.t)}{interval(found.t)}, {found.positive}/{found.n}'


def score_of(which: str, definitions: dict[str, Any], scores: Scores) -> str:
    """Write the mean score of one side of a row as part of a sentence.

    Raises:
        ValueError: for a comparison, row, metric or side that is not there.
    """
    comparison, row, metric, rest = _named(which, definitions)
    side, *where = rest or ['']
    if side not in SIDES:
        raise ValueError(f'{which!r}: a score is that of one of {[*SIDES]}, got {side!r}')
    sets = _sets(which, where, comparison, scores)
    columns = {each: mean_over(scores, metric, sets, row[each]) for each in SIDES}
    if not columns['base'].keys() & columns['arm'].keys():
        return 'not run'
    return dict(zip(SIDES, means(*columns.values()), strict=True))[side]


def _named(which: str, definitions: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any], str, list[str]]:
    """Return comparison, row and column of the CSV that a mark names, and what stands behind them."""
    parts = [each.strip() for each in which.split(';')]
    name, label, metric = (*parts, '', '')[:3]
    comparisons = {name: each for name, each in definitions['comparisons'].items() if 'rows' in each}
    rows = {row['label']: row for row in comparisons.get(name, {}).get('rows', ())}
    if label not in rows or metric not in METRICS:
        right = f'{name} has the labels {[*rows]}' if rows else f'comparisons with rows are {sorted(comparisons)}'
        raise ValueError(
            f'there is no {which!r}: name a comparison, the label of a row and one of {[*METRICS]}; {right}'
        )
    return comparisons[name], rows[label], METRICS[metric], parts[3:]


def _sets(which: str, named: list[str], comparison: dict[str, Any], scores: Scores) -> list[str]:
    """Return the sets that a mark names, or those of its comparison."""
    sets = comparison.get('sets') or sets_of(scores)
    if unknown := [each for each in named if each not in sets]:
        raise ValueError(f'{which!r}: its comparison has the sets {sets}, got {unknown}')
    return named or sets


#: What writes a mark inside a sentence.
WRITERS = {'gain': gain_of, 'score': score_of}
