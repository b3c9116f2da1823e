"""Compare ways to train by paired differences over seeds: tables of markdown and plots, from the CSV of finished runs.

    python tools/analysis_tools/make_verdict.py            # write
    python tools/analysis_tools/make_verdict.py --check    # exit code 1 if a table is out of date

Whatever stands between ``<!-- paired: NAME -->`` and ``<!-- /paired -->`` in docs and READMEs is replaced by the table
NAME of ``experiments/comparisons.yml``::

    csv: {'': experiments/results_features.csv, val/: experiments/results_features_val.csv}  # by prefix of names
    frozen: experiments/frozen_features.csv     # scores of the features themselves, by set
    comparisons:
      iaa-linear:
        caption: IAA behind a linear layer.
        command: python tools/analysis_tools/run_experiments.py experiments/features_f.yml --fork --threads 1
        plot: docs/figures/iaa_linear.png
        rows:
          - {label: MS, base: ms_linear, arm: iaa_ms_linear}
      iaa-linear-mean:
        mean_of: iaa-linear                      # one row a label: the mean over the sets, seed by seed

Inside a sentence, ``<!-- gain: NAME; LABEL; METRIC -->`` to ``<!-- /gain -->`` becomes the gain of one row over the
sets, with interval and signs; ``; SET`` at the end names one set.

A base and an arm are names of runs; runs are compared that share set and seed. The set is the folder of the features. A
base called ``frozen`` is the features' own score.
"""

import argparse
import csv
import json
import re
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from paired import Paired, differences, paired
from results import Row, read_rows
from yaml_files import read_yaml

from mmdml.utils.tables import markdown_table

MARKDOWN = ('docs/*.md', 'configs/*/README.md', 'README.md')
METRICS = {'Recall@1': 'retrieval/Recall@1', 'MAP@R': 'retrieval/MAP@R'}
#: The set of runs whose options name none: that of configs/_base_/datasets/features.py.
DEFAULT_SET = 'features/mobilenet-v2/grocery'
_GAIN = re.compile(r'<!-- gain: (?P<which>[^>]+) -->.*?<!-- /gain -->', flags=re.DOTALL)
_BLOCK = re.compile(r'<!-- paired: (?P<name>\S+) -->\n(?P<body>.*?)<!-- /paired -->', flags=re.DOTALL)

#: Score by seed, of a metric, a set and a name of runs.
Scores = dict[tuple[str, str, str], dict[int, float]]


def read_scores(rows: Sequence[Row], frozen: dict[str, dict[str, str]], prefix: str = '') -> Scores:
    """Arrange a CSV; the features themselves are runs called ``frozen`` with the same score for every seed.

    Args:
        rows: of the CSV.
        frozen: scores on test classes, by set.
        prefix: before the names of the runs; runs on validation classes have one.
    """
    scores: Scores = defaultdict(dict)
    for row in rows:
        where = json.loads(row['options']).get('val_dataloader.dataset.data_root', DEFAULT_SET)
        for metric in METRICS.values():
            scores[metric, where, prefix + row['name']][int(row['seed'])] = float(row[metric])
            if where in frozen and not prefix:
                scores[metric, where, 'frozen'][int(row['seed'])] = float(frozen[where][metric.rpartition('/')[2]])
    return dict(scores)


def sets_of(scores: Scores) -> list[str]:
    """Return the sets in the order of the CSV."""
    return list(dict.fromkeys(where for _, where, _ in scores))


def compare(scores: Scores, metric: str, where: str, base: str, arm: str) -> Paired | None:
    """Compare two ways to train on a set; None where no seed has both."""
    found = differences(scores.get((metric, where, base), {}), scores.get((metric, where, arm), {}))
    return paired(found) if found else None


def compare_means(scores: Scores, metric: str, sets: Sequence[str], base: str, arm: str) -> Paired | None:
    """Compare the means over sets, of the seeds that all sets have; None where there is none."""
    first, second = (_mean_over(scores, metric, sets, name) for name in (base, arm))
    found = differences(first, second)
    return paired(found) if found else None


def _mean_over(scores: Scores, metric: str, sets: Sequence[str], name: str) -> dict[int, float]:
    columns = [scores.get((metric, where, name), {}) for where in sets]
    shared = set.intersection(*(set(column) for column in columns)) if columns else set()
    return {seed: sum(column[seed] for column in columns) / len(columns) for seed in shared}


# ---- tables ----------------------------------------------------------------------------------------------------------


def interval(bounds: tuple[float, float] | None) -> str:
    """Write an interval."""
    return '' if bounds is None else f'[{bounds[0]:+.2f}, {bounds[1]:+.2f}]'


def cells(found: Paired | None) -> list[str]:
    """Difference with intervals and signs; bold where the t interval leaves out 0."""
    if found is None:
        return ['not run', '', '', '']
    mean = f'**{found.mean:+.2f}**' if found.clear else f'{found.mean:+.2f}'
    return [mean, interval(found.t), interval(found.bootstrap), f'{found.positive}/{found.n}']


def short(where: str) -> str:
    """Backbone and set, without the folder of all features."""
    backbone, _, name = where.removeprefix('features/').partition('/')
    return f'{name.removesuffix("_trainhalf")}, {backbone}'


def _means(base: dict[int, float], arm: dict[int, float]) -> list[str]:
    """Means of base and arm over the seeds that both have; of one alone where there is no such seed."""
    shared = base.keys() & arm.keys()
    columns = [{seed: column[seed] for seed in shared} or column for column in (base, arm)]
    return [f'{sum(column.values()) / len(column):.2f}' if column else '' for column in columns]


def table_by_set(
    comparison: dict[str, Any], scores: Scores, frozen: dict[str, dict[str, str]], validation: tuple[str, ...] = ()
) -> str:
    """One row for each set and label; the features' score is left out where names of runs begin as `validation`."""
    lines = []
    for where in comparison.get('sets') or sets_of(scores):
        for row in comparison['rows']:
            # The features were scored on test classes: beside scores on validation classes that is another task.
            known = {} if row['arm'].startswith(validation) else frozen.get(where, {})
            line = [short(where), row['label'], known.get('Recall@1', '')]
            for number, metric in enumerate(METRICS.values()):
                if not number:
                    line += _means(*(scores.get((metric, where, row[side]), {}) for side in ('base', 'arm')))
                line += cells(compare(scores, metric, where, row['base'], row['arm']))
            lines.append(line)
    headers = ['set, backbone', 'way', 'R@1 frozen', 'base', 'arm']
    for metric in ('R@1', 'MAP@R'):
        headers += [f'gain in {metric}', '95 % (t)', '95 % (bootstrap)', 'gains']
    return markdown_table(headers, lines, text_columns=2)


def table_of_means(comparison: dict[str, Any], scores: Scores) -> str:
    """One row for each label, over the sets."""
    sets = comparison.get('sets') or sets_of(scores)
    lines = []
    for row in comparison['rows']:
        line = [row['label']]
        for metric in METRICS.values():
            line += cells(compare_means(scores, metric, sets, row['base'], row['arm']))
        lines.append(line)
    headers = ['way']
    for metric in ('R@1', 'MAP@R'):
        headers += [f'gain in {metric}', '95 % (t)', '95 % (bootstrap)', 'gains']
    return markdown_table(headers, lines)


def render(name: str, definitions: dict[str, Any], scores: Scores, frozen: dict[str, dict[str, str]]) -> str:
    """Caption, table and command.

    Raises:
        ValueError: for a comparison that is not defined.
    """
    known = definitions['comparisons']
    if name not in known:
        raise ValueError(f'there is no comparison {name!r}; experiments/comparisons.yml defines {sorted(known)}')
    own = known[name]
    comparison = {**known[own['mean_of']], **own} if 'mean_of' in own else own
    if 'mean_of' in own:
        table = table_of_means(comparison, scores)
    else:
        validation = tuple(prefix for prefix in definitions.get('csv', {}) if prefix)
        table = table_by_set(comparison, scores, frozen, validation)
    return '\n\n'.join([comparison['caption'], table, f'From: `{comparison["command"]}`'])


def fill(text: str, definitions: dict[str, Any], scores: Scores, frozen: dict[str, dict[str, str]]) -> str:
    """Replace every marked block of a markdown text."""

    def block(match: 're.Match[str]') -> str:
        name = match['name']
        return f'<!-- paired: {name} -->\n\n{render(name, definitions, scores, frozen)}\n\n<!-- /paired -->'

    def gain(match: 're.Match[str]') -> str:
        return f'<!-- gain: {match["which"]} -->{sentence(match["which"], definitions, scores)}<!-- /gain -->'

    return _GAIN.sub(gain, _BLOCK.sub(block, text))


def sentence(which: str, definitions: dict[str, Any], scores: Scores) -> str:
    """Write the gain of a row as part of a sentence.

    Raises:
        ValueError: for a comparison, row or metric that is not there.
    """
    name, label, metric, *where = (each.strip() for each in which.split(';'))
    comparison = definitions['comparisons'].get(name, {})
    rows = [row for row in comparison.get('rows', ()) if row['label'] == label]
    if not rows or metric not in METRICS:
        raise ValueError(f'there is no gain {which!r}: name a comparison, the label of a row and one of {[*METRICS]}')
    sets = where or comparison.get('sets') or sets_of(scores)
    found = compare_means(scores, METRICS[metric], sets, rows[0]['base'], rows[0]['arm'])
    if found is None:
        return 'not run'
    return f'{found.mean:+.2f}{" " * bool(found.t)}{interval(found.t)}, a gain for {found.positive} of {found.n} seeds'


# ---- plots -----------------------------------------------------------------------------------------------------------


def plot(comparison: dict[str, Any], scores: Scores, path: Path) -> None:
    """Draw gains in MAP@R with their t intervals, one panel for each set."""
    import matplotlib

    matplotlib.use('Agg')
    from matplotlib import pyplot

    sets = comparison.get('sets') or sets_of(scores)
    figure, panels = pyplot.subplots(1, len(sets), figsize=(2.6 * len(sets) + 1, 0.32 * len(comparison['rows']) + 1.1))
    for panel, where in zip(figure.axes, sets, strict=True):
        for height, row in enumerate(reversed(comparison['rows'])):
            found = compare(scores, METRICS['MAP@R'], where, row['base'], row['arm'])
            if found is not None:
                error = None if found.t is None else found.t[1] - found.mean
                panel.errorbar(found.mean, height, xerr=error, fmt='o', color='C0' if found.clear else '0.6', capsize=3)
        panel.axvline(0, color='0.3', linewidth=0.8)
        panel.set_title(short(where), fontsize=8)
        labels = [row['label'] for row in reversed(comparison['rows'])] if panel is figure.axes[0] else []
        panel.set_yticks(range(len(labels)), labels, fontsize=8)
        panel.set_ylim(-0.6, len(comparison['rows']) - 0.4)
        panel.tick_params(axis='x', labelsize=7)
        panel.set_xlabel('gain in MAP@R, 95 % (t)', fontsize=7)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=80, metadata={'Software': None})
    pyplot.close(figure)


# ---- all files -------------------------------------------------------------------------------------------------------


def read_frozen(path: Path) -> dict[str, dict[str, str]]:
    """Scores of the features themselves, by set."""
    with open(path, newline='', encoding='utf-8') as file:
        return {row['set']: row for row in csv.DictReader(file)}


def updated_files(
    root: Path, definitions: dict[str, Any], scores: Scores, frozen: dict[str, dict[str, str]]
) -> Iterator[tuple[Path, str]]:
    """Yield the files whose tables differ from the CSV, with their right content."""
    for path in sorted({path for pattern in MARKDOWN for path in root.glob(pattern)}):
        old = path.read_text(encoding='utf-8')
        new = fill(old, definitions, scores, frozen)
        if new != old:
            yield path, new


def main(arguments: Sequence[str] | None = None) -> int:
    """Write or check tables, and write plots; exit code 1 if a check failed, 2 for a faulty file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--check', action='store_true', help='write nothing; exit code 1 if a table is out of date')
    parser.add_argument('--root', type=Path, default=Path(__file__).resolve().parents[2], help='folder of the project')
    args = parser.parse_args(arguments)
    try:
        definitions = read_yaml(args.root / 'experiments/comparisons.yml')
        frozen = read_frozen(args.root / definitions['frozen'])
        scores = {}
        for prefix, path in definitions['csv'].items():
            scores.update(read_scores(read_rows(args.root / path), frozen, prefix))
        outdated = list(updated_files(args.root, definitions, scores, frozen))
    except (ValueError, OSError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    for path, text in outdated:
        print(f'{"out of date" if args.check else "written"}: {path}')
        if not args.check:
            path.write_text(text, encoding='utf-8')
    for comparison in () if args.check else definitions['comparisons'].values():
        if 'plot' in comparison:
            plot(comparison, scores, args.root / comparison['plot'])
    return int(args.check and bool(outdated))


if __name__ == '__main__':
    sys.exit(main())
