"""``experiments/comparisons.yml`` and the CSVs it names: what is compared, with the scores of the runs."""

import csv
import json
import re
from pathlib import Path
from typing import Any

from paired_scores import METRICS, Scores, read_scores, set_and_name
from results import is_number, read_rows
from row_checks import refuse_empty, refuse_repeated, refuse_unknown
from yaml_files import FLAG, LIST, MAPPING, NUMBER, TEXT, TEXTS, Kind, check_fields, read_yaml

from experiments import planned_runs
from mmdml.utils.tables import read_lines

_DATE = Kind(
    "a date in quotes, such as '2026-11-28'",
    lambda value: isinstance(value, str) and re.fullmatch(r'\d{4}-\d\d-\d\d', value) is not None,
)
_FILE = {'csv': MAPPING, 'frozen': TEXT, 'comparisons': MAPPING}
_SOURCE = {'file': TEXT, 'since': _DATE, 'validation': FLAG}
_TABLE = {'caption': TEXT, 'command': TEXT, 'sets': TEXTS}
_CURVES = {'x': TEXT, 'base_line': TEXT, 'arm_line': TEXT}
_COMPARISON = {**_TABLE, **_CURVES, 'rows': LIST, 'plot': TEXT, 'curves': TEXT}
_MEANS = {**_TABLE, 'mean_of': TEXT}
_ROW = {'label': TEXT, 'base': TEXT, 'arm': TEXT, 'x': NUMBER, 'line': TEXT, 'tick': TEXT}


def read_comparisons(path: Path) -> dict[str, Any]:
    """Read and check ``experiments/comparisons.yml``.

    Raises:
        ValueError: for an unknown, missing or repeated key or a value of the wrong kind; names file, place and key.
        FileNotFoundError: if the file is not there.
    """
    content = read_yaml(path)
    check_fields(content, _FILE, tuple(_FILE), str(path))
    for prefix, source in content['csv'].items():
        if not isinstance(source, str):
            check_fields(source, _SOURCE, ('file',), f'{path}: csv {prefix!r}')
    comparisons = content['comparisons']
    for name, comparison in comparisons.items():
        where = f'{path}: comparison {name}'
        if isinstance(comparison, dict) and 'mean_of' in comparison:
            check_fields(comparison, _MEANS, ('mean_of',), where)
            known = [each for each, other in comparisons.items() if isinstance(other, dict) and 'rows' in other]
            if comparison['mean_of'] not in known:
                raise ValueError(f'{where}: mean_of must be one of {known}, got {comparison["mean_of"]!r}')
        else:
            _check_comparison(comparison, where)
    return content


def validation_prefixes(definitions: dict[str, Any]) -> tuple[str, ...]:
    """Beginnings of the names of runs that were scored on validation classes."""
    sources = definitions['csv'].items()
    return tuple(prefix for prefix, source in sources if not isinstance(source, str) and source.get('validation'))


def _check_comparison(comparison: Any, where: str) -> None:
    """Check one comparison that has rows of its own."""
    check_fields(comparison, _COMPARISON, ('caption', 'command', 'rows'), where)
    for number, row in enumerate(comparison['rows']):
        check_fields(row, _ROW, ('label', 'base', 'arm'), f'{where}: row {number}')
    labels = [row['label'] for row in comparison['rows']]
    if repeated := sorted({label for label in labels if labels.count(label) > 1}):
        raise ValueError(f'{where}: several rows have the label {" and ".join(repeated)}')
    if comparison.get('curves'):
        drawn = [row for row in comparison['rows'] if 'x' in row]
        lines = [row for row in drawn if 'line' in row]
        needed = ['x'] if lines else [*_CURVES]
        if missing := [key for key in needed if key not in comparison]:
            raise ValueError(f'{where}: curves need {missing}')
        if not drawn or 0 < len(lines) < len(drawn):
            raise ValueError(f'{where}: curves need rows with an x, and a line in all of them or in none')


def read_frozen(path: Path) -> dict[str, dict[str, str]]:
    """Scores of the features themselves, by set.

    Raises:
        ValueError: if a line lacks the set or a score, or a set has two lines; names file and line.
        FileNotFoundError: if the file is not there.
    """
    found: dict[str, dict[str, str]] = {}
    reader = csv.DictReader(read_lines(str(path)))
    if missing := [column for column in ('set', *METRICS) if column not in (reader.fieldnames or ())]:
        raise ValueError(f'{path}, line 1: the header lacks {missing}')
    for row in reader:
        where = f'{path}, line {reader.line_num}'
        for metric in METRICS:
            if not is_number(row[metric] or ''):
                raise ValueError(f'{where}: {metric} must be a number, got {row[metric]!r}')
        if not row['set'] or row['set'] in found:
            raise ValueError(f'{where}: must name a set that no other line has, got {row["set"]!r}')
        found[row['set']] = row
    return found


def load_scores(path: Path, root: Path, definitions: dict[str, Any], frozen: dict[str, dict[str, str]]) -> Scores:
    """Return scores of the runs in all CSVs; names begin with the prefix of their CSV.

    Args:
        path: of the definitions; its folder has the plans.
        root: folder of the project.
        definitions: see `read_comparisons`.
        frozen: see `read_frozen`.

    Raises:
        ValueError: if two rows of one CSV share set, name and seed, and a comparison uses them; for a set or a name
            that stands in no CSV and no plan; for a row without a score.
    """
    comparisons = definitions['comparisons']
    compared = compared_runs(comparisons)
    planned = planned_runs(path.parent)
    known = {(where, 'frozen') for where in frozen}
    scores: Scores = {}
    for prefix, source in definitions['csv'].items():
        source = {'file': source} if isinstance(source, str) else source
        rows = [row for row in read_rows(root / source['file']) if row['date'] >= source.get('since', '')]
        refuse_empty(rows, METRICS.values(), source['file'])
        keyed = [(row, *set_and_name(row)) for row in rows]
        used = [row for row, where, name in keyed if {(where, prefix + name), (None, prefix + name)} & compared]
        refuse_repeated(used, lambda row: (*set_and_name(row), int(row['seed'])), source['file'])
        # The features were scored on test classes: beside scores on validation classes that is another task.
        known_features = {} if prefix in validation_prefixes(definitions) else frozen
        for key, by_seed in read_scores(rows, known_features, prefix).items():
            scores.setdefault(key, {}).update(by_seed)
        for run in planned.get(Path(source['file']), ()):
            where, name = set_and_name({'name': run.name, 'config': run.config, 'options': json.dumps(run.options)})
            known.add((where, prefix + name))
    known |= {(where, name) for _, where, name in scores}
    _check_names(comparisons, known, path)
    return scores


def _check_names(comparisons: dict[str, Any], known: set[tuple[str, str]], path: Path) -> None:
    """Check that sets and names are those of a run that was made, or is planned."""
    sets, names = ({pair[place] for pair in known} for place in (0, 1))
    among = 'of the runs in the CSVs and in the plans beside this file'
    for comparison, content in comparisons.items():
        for where in content.get('sets') or ():
            refuse_unknown(where, sets, f'{path}: comparison {comparison}: sets: {among}')
        for row in content.get('rows') or ():
            for side in ('base', 'arm'):
                refuse_unknown(row[side], names, f'{path}: comparison {comparison}: {side} of {row["label"]}: {among}')


def compared_runs(comparisons: dict[str, Any]) -> set[tuple[str | None, str]]:
    """Return sets and names of all bases and arms; no set where a comparison is over all sets."""
    found = set()
    for comparison in comparisons.values():
        comparison = {**comparisons.get(comparison.get('mean_of'), {}), **comparison}
        for row in comparison['rows']:
            found |= {(where, row[side]) for where in comparison.get('sets') or [None] for side in ('base', 'arm')}
    return found
