r"""Compare the scores of the same runs in two CSVs: how far another machine moves a figure.

    python tools/analysis_tools/compare_machines.py experiments/results.csv results_elsewhere.csv --pair ms iaa_ms

A line for each set: how many runs both have, in one version of their config, how many of them have equal scores, and
the mean, the standard deviation and the largest size of second minus first, in points of percent. With ``--pair`` also
how far the differences between two ways to train moved, which is what claims are made of.
"""

import argparse
from collections.abc import Sequence

import numpy as np
from paired_scores import METRICS, set_and_name, short
from results import Row, read_rows
from row_checks import refuse_empty, refuse_repeated, refuse_unknown

#: Columns of a measure, from the differences of a set.
COLUMNS = {
    'mean': lambda d: f'{d.mean():+.2f}',
    'deviation': lambda d: f'{d.std(ddof=1):.2f}' if len(d) > 1 else '',
    'largest': lambda d: f'{np.abs(d).max():.2f}',
}


#: Second minus first of a run, with its set, name and seed.
Change = tuple[str, str, str, float]


def shared_runs(first: Sequence[Row], second: Sequence[Row], files: Sequence[str]) -> list[tuple[Row, Row]]:
    """Return the rows of the runs that both have, of one version of their config.

    Raises:
        ValueError: if they have no such run in common, or a file has one twice or without a score.
    """
    keys = [{run_key(row) for row in rows} for rows in (first, second)]
    shared = keys[0] & keys[1]
    if not shared:
        raise ValueError('the two files have no run in common: a run is its config in one version, seed and options')
    for rows, where in zip((first, second), files, strict=True):
        rows = [row for row in rows if run_key(row) in shared]
        refuse_empty(rows, METRICS.values(), where)
        refuse_repeated(rows, run_key, where)
    there = {run_key(row): row for row in first}
    return [(there[run_key(row)], row) for row in second if run_key(row) in shared]


def run_key(row: Row) -> tuple[str, str]:
    """Return what makes a run: its id, and the version of its config."""
    return row['run'], row['config_hash']


def moved(shared: Sequence[tuple[Row, Row]], metric: str) -> list[Change]:
    """Second minus first of one metric."""
    return [(*set_and_name(row), row['seed'], float(row[metric]) - float(there[metric])) for there, row in shared]


def by_set(changes: Sequence[Change], pair: Sequence[str] = ()) -> dict[str, np.ndarray]:
    """Arrange differences by set; with a pair, those of its second way to train minus those of its first."""
    found: dict[str, list[float]] = {}
    if not pair:
        for where, _, _, change in changes:
            found.setdefault(where, []).append(change)
    else:
        sides = {(where, name, seed): change for where, name, seed, change in changes}
        for (where, name, seed), change in sides.items():
            if name == pair[1] and (where, pair[0], seed) in sides:
                found.setdefault(where, []).append(change - sides[where, pair[0], seed])
    return {where: np.array(values) for where, values in found.items()}


def table(
    first: Sequence[Row],
    second: Sequence[Row],
    pairs: Sequence[Sequence[str]] = (),
    files: Sequence[str] = ('first file', 'second file'),
) -> str:
    """Write the comparison as a Markdown table, in the order of sets of the second file.

    Args:
        first: rows of one machine.
        second: rows of the other.
        pairs: names of two ways to train.
        files: names of the two files, for messages.

    Raises:
        ValueError: if nothing can be compared, or several runs of a seed, as those of a matrix of options, could be.
    """
    heads = [f'{name}: {column}' if column == 'mean' else column for name in METRICS for column in COLUMNS]
    lines = [
        '| set | of | runs | equal | ' + ' | '.join(heads) + ' |',
        '|:--|:--|--:|--:|' + '--:|' * len(heads),
    ]
    shared = shared_runs(first, second, files)
    changes = [moved(shared, metric) for metric in METRICS.values()]
    names = {set_and_name(row)[1] for _, row in shared}
    for pair in [(), *pairs]:
        for name in pair:
            refuse_unknown(name, names, f'pair {" ".join(pair)}: of the runs in both files')
        rows = [row for _, row in shared if set_and_name(row)[1] in pair]
        refuse_repeated(rows, lambda row: (*set_and_name(row), row['seed']), ' - '.join(reversed(pair)))
        arranged = [by_set(each, pair) for each in changes]
        if not arranged[0]:
            raise ValueError(f'pair {" ".join(pair)}: both files have no set and seed with a run of each')
        for where in arranged[0]:
            found = np.stack([each[where] for each in arranged])
            counts = [str(found.shape[1]), str((found == 0).all(0).sum())]
            cells = [value(differences) for differences in found for value in COLUMNS.values()]
            row = [short(where), f'{pair[1]} - {pair[0]}' if pair else 'a score', *counts, *cells]
            lines.append('| ' + ' | '.join(row) + ' |')
    return '\n'.join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('first', help='CSV of one machine')
    parser.add_argument('second', help='CSV of the other')
    parser.add_argument(
        '--pair', nargs=2, action='append', default=[], metavar=('BASE', 'ARM'), help='names of two ways to train'
    )
    args = parser.parse_args(arguments)
    try:
        print(table(read_rows(args.first), read_rows(args.second), args.pair, (args.first, args.second)))
    except (ValueError, OSError) as error:
        parser.error(str(error))
    return 0


if __name__ == '__main__':
    raise SystemExit(main())
