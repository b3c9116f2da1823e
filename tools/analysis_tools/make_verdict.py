"""Compare ways to train by paired differences over seeds: tables of markdown and plots, from the CSV of finished runs.

    python tools/analysis_tools/make_verdict.py            # write
    python tools/analysis_tools/make_verdict.py --check    # exit code 1 if a table is out of date

Whatever stands between ``<!-- paired: NAME -->`` and ``<!-- /paired -->`` in docs and READMEs is replaced by the table
NAME of ``experiments/comparisons.yml``::

    csv:                                        # by prefix of the names of runs
      '': experiments/results_features.csv
      val/: {file: experiments/results_features_val.csv, validation: true}    # scored on validation classes
      o/: {file: experiments/results.csv, since: '2026-11-28'}      # rows of that date and later
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

``plot`` draws the gains with their intervals. ``curves`` draws Recall@1 against the number ``x`` of the rows, named by
``x`` of the comparison: gains where the rows have a ``line``, else scores, as lines called ``base_line`` and
``arm_line``; ``tick`` of a row is written in place of its number.

Inside a sentence, ``<!-- gain: NAME; LABEL; METRIC -->`` to ``<!-- /gain -->`` becomes the gain of one row over the
sets, with interval and signs; ``; SET`` at the end names one set. ``<!-- score: NAME; LABEL; METRIC; base -->`` to
``<!-- /score -->`` becomes the mean score of the row's base, or of its arm, over the seeds that both have.

A base and an arm are names of runs; runs are compared that share set, seed and machine. The set is the folder of the
features, or the end of the config's name (see :func:`paired_scores.set_and_name`). A base called ``frozen`` is the
features' own score. Sets and names must be those of rows, or of runs that a plan beside ``comparisons.yml`` sends to
the same CSV: these are written as not run. Several rows of one set, name and seed are an error where a comparison uses
them.
"""

import argparse
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from comparison_plots import plot_curves, plot_gains
from comparisons import load_scores, read_comparisons, read_frozen, validation_prefixes
from inline_figures import SIDES, WRITERS, interval, means
from markers import check_markers
from paired import Paired
from paired_scores import METRICS, Scores, compare, compare_means, mean_over, sets_of, short

from mmdml.utils.tables import markdown_table

MARKDOWN = ('docs/*.md', 'docs/benchmarks/*.md', 'configs/*/README.md', 'README.md')
_INLINE = re.compile(r'<!-- (?P<kind>gain|score): (?P<which>.+?) -->.*?<!-- /(?P=kind) -->', flags=re.DOTALL)
_GAINS = [
    header for metric in ('R@1', 'MAP@R') for header in (f'gain in {metric}', '95 % (t)', '95 % (bootstrap)', 'gains')
]
_BLOCK = re.compile(r'<!-- paired: (?P<name>.+?) -->.*?<!-- /paired -->', flags=re.DOTALL)


# ---- tables ----------------------------------------------------------------------------------------------------------


def cells(found: Paired) -> list[str]:
    """Difference with intervals and signs; bold where the t interval leaves out 0."""
    mean = f'**{found.mean:+.2f}**' if found.clear else f'{found.mean:+.2f}'
    return [mean, interval(found.t), interval(found.bootstrap), f'{found.positive}/{found.n}']


def table_by_set(
    comparison: dict[str, Any], scores: Scores, frozen: dict[str, dict[str, str]], validation: tuple[str, ...] = ()
) -> str:
    """One row for each set and label that was run; no score of the features where names begin as `validation`."""
    lines, missing = [], {}
    for where in comparison.get('sets') or sets_of(scores):
        for row in comparison['rows']:
            if compare(scores, METRICS['Recall@1'], where, row['base'], row['arm']) is None:
                missing.setdefault(row['label'], []).append(short(where))
                continue
            # The features were scored on test classes: beside scores on validation classes that is another task.
            known = {} if row['arm'].startswith(validation) else frozen.get(where, {})
            line = [short(where), row['label'], known.get('Recall@1', '')]
            line += means(*(scores.get((METRICS['Recall@1'], where, row[side]), {}) for side in SIDES))
            for metric in METRICS.values():
                line += cells(compare(scores, metric, where, row['base'], row['arm']))
            lines.append(line)
    headers = ['set, backbone', 'way', 'R@1 frozen', 'base', 'arm', *_GAINS]
    labels: dict[str, list[str]] = {}
    for label, without in missing.items():
        labels.setdefault(' and '.join(without), []).append(label)
    table = markdown_table(headers, lines, text_columns=2)
    return _with_missing(table, [f'Not run on {where}: {"; ".join(each)}.' for where, each in labels.items()])


def table_ofmeans(comparison: dict[str, Any], scores: Scores) -> str:
    """One row for each label that was run on all sets, over the sets."""
    sets = comparison.get('sets') or sets_of(scores)
    lines, missing = [], []
    for row in comparison['rows']:
        if compare_means(scores, METRICS['Recall@1'], sets, row['base'], row['arm']) is None:
            missing.append(row['label'])
            continue
        line = [row['label'], *means(*(mean_over(scores, METRICS['Recall@1'], sets, row[side]) for side in SIDES))]
        for metric in METRICS.values():
            line += cells(compare_means(scores, metric, sets, row['base'], row['arm']))
        lines.append(line)
    table = markdown_table(['way', 'base R@1', 'arm R@1', *_GAINS], lines)
    return _with_missing(table, [f'Not run: {"; ".join(missing)}.'] if missing else [])


def _with_missing(table: str, sentences: Sequence[str]) -> str:
    """Say below a table what was not run."""
    return '\n\n'.join([table, ' '.join(sentences)] if sentences else [table])


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
        table = table_ofmeans(comparison, scores)
    else:
        table = table_by_set(comparison, scores, frozen, validation_prefixes(definitions))
    return '\n\n'.join([comparison['caption'], table, f'From: `{comparison["command"]}`'])


def fill(text: str, definitions: dict[str, Any], scores: Scores, frozen: dict[str, dict[str, str]]) -> str:
    """Replace every marked block of a markdown text.

    Raises:
        ValueError: for a marker that is not closed, or names what is not there.
    """
    check_markers(text)

    def block(match: 're.Match[str]') -> str:
        name = match['name']
        return f'<!-- paired: {name} -->\n\n{render(name, definitions, scores, frozen)}\n\n<!-- /paired -->'

    def inline(match: 're.Match[str]') -> str:
        kind, which = match['kind'], match['which']
        return f'<!-- {kind}: {which} -->{WRITERS[kind](which, definitions, scores)}<!-- /{kind} -->'

    return _INLINE.sub(inline, _BLOCK.sub(block, text))


# ---- all files -------------------------------------------------------------------------------------------------------


def updated_files(
    root: Path, definitions: dict[str, Any], scores: Scores, frozen: dict[str, dict[str, str]]
) -> Iterator[tuple[Path, str]]:
    """Yield the files whose tables differ from the CSV, with their right content."""
    for path in sorted({path for pattern in MARKDOWN for path in root.glob(pattern)}):
        old = path.read_text(encoding='utf-8')
        try:
            new = fill(old, definitions, scores, frozen)
        except ValueError as error:
            raise ValueError(f'{path}: {error}') from None
        if new != old:
            yield path, new


def main(arguments: Sequence[str] | None = None) -> int:
    """Write or check tables, and write plots; exit code 1 if a check failed, 2 for a faulty file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--check', action='store_true', help='write nothing; exit code 1 if a table is out of date')
    parser.add_argument('--root', type=Path, default=Path(__file__).resolve().parents[2], help='folder of the project')
    args = parser.parse_args(arguments)
    try:
        path = args.root / 'experiments/comparisons.yml'
        definitions = read_comparisons(path)
        frozen = read_frozen(args.root / definitions['frozen'])
        scores = load_scores(path, args.root, definitions, frozen)
        outdated = list(updated_files(args.root, definitions, scores, frozen))
    except (ValueError, OSError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    for path, text in outdated:
        print(f'{"out of date" if args.check else "written"}: {path}')
        if not args.check:
            path.write_text(text, encoding='utf-8')
    for comparison in () if args.check else definitions['comparisons'].values():
        for kind, draw in (('plot', plot_gains), ('curves', plot_curves)):
            if comparison.get(kind):
                draw(comparison, scores, args.root / comparison[kind])
    return int(args.check and bool(outdated))


if __name__ == '__main__':
    sys.exit(main())
