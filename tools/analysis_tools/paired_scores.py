"""Scores of runs by set, name, machine and seed, and the paired differences between two ways to train."""

import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from paired import Paired, differences, paired
from results import Row

METRICS = {'Recall@1': 'retrieval/Recall@1', 'MAP@R': 'retrieval/MAP@R'}
#: The set of runs on features whose options name none: that of configs/_base_/datasets/features.py.
DEFAULT_SET = 'features/mobilenet-v2/grocery'

#: What the two runs of a pair share: the machine and the seed. Runs of two machines make no pair: docs/protocol.md.
Partner = tuple[str, int]

#: Score by machine and seed, of a metric, a set and a name of runs.
Scores = dict[tuple[str, str, str], dict[Partner, float]]


def set_and_name(row: Row) -> tuple[str, str]:
    """Return the set of a run, and the name of its way to train.

    The set is the folder of the features, or of the images, that the options name; of other configs, the end of their
    file name. It is taken out of the name of the run: ``iaa_ms_cars-half`` is ``iaa_ms`` on ``cars-half``.
    """
    where = json.loads(row['options']).get('val_dataloader.dataset.data_root')
    if where is None:
        where = Path(row.get('config', '')).stem.rpartition('_')[2]
        where = DEFAULT_SET if where in ('', 'features') else where
    where = where.removeprefix('data/')
    return where, row['name'].replace(f'_{where}', '')


def read_scores(rows: Sequence[Row], frozen: dict[str, dict[str, str]], prefix: str = '') -> Scores:
    """Arrange a CSV; the features themselves are runs called ``frozen`` with the same score for every seed.

    Args:
        rows: of the CSV.
        frozen: scores of the features themselves on the classes of the CSV, by set.
        prefix: before the names of the runs.
    """
    scores: Scores = defaultdict(dict)
    for row in rows:
        where, name = set_and_name(row)
        partner = row['machine'], int(row['seed'])
        for metric in METRICS.values():
            scores[metric, where, prefix + name][partner] = float(row[metric])
            if where in frozen:
                scores[metric, where, 'frozen'][partner] = float(frozen[where][metric.rpartition('/')[2]])
    return dict(scores)


def sets_of(scores: Scores) -> list[str]:
    """Return the sets in the order of the CSV."""
    return list(dict.fromkeys(where for _, where, _ in scores))


def compare(scores: Scores, metric: str, where: str, base: str, arm: str) -> Paired | None:
    """Compare two ways to train on a set; None where no machine and seed has both."""
    found = differences(scores.get((metric, where, base), {}), scores.get((metric, where, arm), {}))
    return paired(found) if found else None


def compare_means(scores: Scores, metric: str, sets: Sequence[str], base: str, arm: str) -> Paired | None:
    """Compare the means over sets, of the seeds that all sets have; None where there is none."""
    first, second = (mean_over(scores, metric, sets, name) for name in (base, arm))
    found = differences(first, second)
    return paired(found) if found else None


def mean_over(scores: Scores, metric: str, sets: Sequence[str], name: str) -> dict[Partner, float]:
    """Scores by machine and seed, means over sets, of the seeds that all sets have on that machine."""
    columns = [scores.get((metric, where, name), {}) for where in sets]
    shared = set.intersection(*(set(column) for column in columns)) if columns else set()
    return {partner: sum(column[partner] for column in columns) / len(columns) for partner in shared}


def short(where: str) -> str:
    """Set and backbone, without the folder of all features; a set of photographs or drawings as it is called."""
    where = where.removesuffix('_trainhalf')
    if '/' not in where:
        return where
    backbone, _, name = where.removeprefix('features/').partition('/')
    return f'{name}, {backbone}'
