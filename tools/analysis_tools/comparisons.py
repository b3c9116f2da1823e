"""``experiments/comparisons.yml`` and the CSVs it names: what is compared, with the scores of the runs."""

import csv
from pathlib import Path
from typing import Any

from paired_scores import Scores, read_scores, set_and_name
from results import read_rows
from selected_rows import refuse_repeated

from mmdml.utils.tables import read_lines


def read_frozen(path: Path) -> dict[str, dict[str, str]]:
    """Scores of the features themselves, by set."""
    return {row['set']: row for row in csv.DictReader(read_lines(str(path)))}


def load_scores(root: Path, definitions: dict[str, Any], frozen: dict[str, dict[str, str]]) -> Scores:
    """Scores of the runs in all CSVs; names begin with the prefix of their CSV.

    Raises:
        ValueError: if two rows of one CSV share set, name and seed, and a comparison uses them.
    """
    compared = compared_runs(definitions['comparisons'])
    scores: Scores = {}
    for prefix, source in definitions['csv'].items():
        source = {'file': source} if isinstance(source, str) else source
        rows = [row for row in read_rows(root / source['file']) if row['date'] >= source.get('since', '')]
        keyed = [(row, *set_and_name(row)) for row in rows]
        used = [row for row, where, name in keyed if {(where, prefix + name), (None, prefix + name)} & compared]
        refuse_repeated(used, lambda row: (*set_and_name(row), int(row['seed'])), source['file'])
        scores.update(read_scores(rows, frozen, prefix))
    return scores


def compared_runs(comparisons: dict[str, Any]) -> set[tuple[str | None, str]]:
    """Return sets and names of all bases and arms; no set where a comparison is over all sets."""
    found = set()
    for comparison in comparisons.values():
        comparison = {**comparisons.get(comparison.get('mean_of'), {}), **comparison}
        for row in comparison['rows']:
            found |= {(where, row[side]) for where in comparison.get('sets') or [None] for side in ('base', 'arm')}
    return found
