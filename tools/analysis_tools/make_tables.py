"""Fill the result tables of READMEs, docs and metafiles from the CSV of finished runs.

    python tools/analysis_tools/make_tables.py            # write
    python tools/analysis_tools/make_tables.py --check    # exit code 1 if a file is out of date

In markdown, whatever stands between ``<!-- results: NAME -->`` and ``<!-- /results -->`` is replaced by the table NAME
of ``experiments/tables.yml``::

    csv: experiments/results.csv        # or a list of files
    tables:
      omniglot-iaa:
        caption: Omniglot, 659 unseen classes.
        command: python tools/analysis_tools/run_experiments.py experiments/omniglot_iaa.yml
        columns:
          - {header: 'Recall@1', run: base, metric: retrieval/Recall@1}
          - {header: 'Recall@1, IAA', run: iaa, metric: retrieval/Recall@1, digits: 2}
        rows:
          - label: Contrastive
            runs: {base: configs/triplet/a.py, iaa: {config: configs/iaa/a.py, options: {model.x: 1}}}
    notes: {ac58987a3c23: What is to be said of every figure that was measured at this commit.}

A cell is the mean over all seeds of one config and one set of options (none unless said), with the sample standard
deviation. ``metric`` may be any numeric column of the CSV. Numbers come from the CSV only. A run may also be
``{name: item of a plan}``; its rows have the given options and any others, one a seed. Options of a column are added
to those of its runs, and ``metric`` of a run goes before that of its column. ``sort: [header, ...]`` of a table sorts
its rows by the mean over these columns, highest first; rows that lack one come last.

In ``configs/*/metafile.yml``, the result with ``Source: measured`` of every model whose config has rows without options
is replaced, or added before the others; so is ``Shipped`` of every model whose weights lie in ``mmdml/shipped``, from
its ``model.json``. Only the lines of these entries are rewritten; comments, order and the other
entries stay as they are, byte for byte. Needs a checkout: an installed package has neither the CSV nor the docs.
"""

import argparse
import math
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from markers import check_markers
from metafile_results import fill_metafile, fill_shipped, scored_dataset, shipped_weights
from results import Row, read_rows
from row_checks import refuse_empty
from selected_rows import commits_of, distinct, mean_and_std, notes_of, select
from table_definitions import check_runs, read_definitions

from mmdml.utils.tables import markdown_table

MARKDOWN = ('*.md', 'docs/**/*.md', 'configs/**/*.md', 'projects/**/*.md', 'experiments/*.md')
METAFILES = 'configs/*/metafile.yml'
SHIPPED = 'mmdml/shipped'
_BLOCK = re.compile(r'<!-- results: (?P<name>.+?) -->.*?<!-- /results -->', flags=re.DOTALL)


def render_cell(rows: Sequence[Row], metric: str, digits: int = 2) -> str:
    """Write ``mean ± std`` of one metric over the given rows, or ``not run``."""
    if not rows:
        return 'not run'
    mean, std = mean_and_std([float(row[metric]) for row in rows])
    return f'{mean:.{digits}f}' if std is None else f'{mean:.{digits}f} ± {std:.{digits}f}'


def mean_of(rows: Sequence[Row], metric: str) -> float:
    """Return the mean of one metric over the given rows; minus infinity for none."""
    return mean_and_std([float(row[metric]) for row in rows])[0] if rows else -math.inf


def render_table(table: dict[str, Any], rows: Sequence[Row], notes: dict[str, str]) -> str:
    """Write a markdown table with its caption above, and below it what was run and how.

    Args:
        table: one entry of ``tables`` in ``experiments/tables.yml``.
        rows: the CSV.
        notes: what is to be said of the rows of a commit, by commit.
    """
    headers = ['', *(column['header'] for column in table['columns'])]
    lines = []
    used: list[Row] = []
    seeds_of_cells = set()
    for line in table['rows']:
        cells, means = [], []
        for column in table['columns']:
            wanted = line['runs'][column['run']]
            wanted = {'config': wanted} if isinstance(wanted, str) else wanted
            options = {**(wanted.get('options') or {}), **(column.get('options') or {})}
            selected = select(rows, {**wanted, 'options': options})
            metric = wanted.get('metric') or column['metric']
            refuse_empty(selected, (metric, 'updates', 'seconds'), f'{line["label"]}, {column["header"]}')
            cells.append(render_cell(selected, metric, column.get('digits', 2)))
            if column['header'] in (table.get('sort') or []):
                means.append(mean_of(selected, metric))
            used += [row for row in selected if row not in used]
            if selected:
                seeds_of_cells.add(tuple(sorted(int(row['seed']) for row in selected)))
        lines.append((sum(means), [line['label'], *cells]))
    if table.get('sort'):
        lines.sort(key=lambda line: -line[0])
    lines = [cells for _, cells in lines]
    below = footnote(table, used, sorted(seeds_of_cells), notes)
    return '\n\n'.join([table['caption'], markdown_table(headers, lines), below])


def footnote(
    table: dict[str, Any], used: Sequence[Row], seeds: Sequence[tuple[int, ...]], notes: dict[str, str]
) -> str:
    """Say how the numbers of a table came about: seeds, updates, time, commit, machine and command."""
    lines = []
    if used:
        counts = ' or '.join(f'n = {len(each)} (seeds {", ".join(map(str, each))})' for each in seeds)
        seconds = [float(row['seconds']) for row in used]
        updates = ' or '.join(sorted(distinct(used, 'updates'), key=int))
        minutes = f'{min(seconds) / 60:.1f} to {max(seconds) / 60:.1f} minutes'
        lines += [
            f'Mean ± sample standard deviation over seeds, {counts};',
            f'scores after the last epoch, {updates} updates; {minutes} a run',
            f'on {" and on ".join(distinct(used, "machine"))};',
            f'commit {", ".join(commits_of(used))}, torch {", ".join(distinct(used, "torch"))}.',
            *notes_of(used, notes),
        ]
    return '\n'.join([*lines, 'From:', '', '```shell', table['command'], '```'])


def fill_markdown(text: str, definitions: dict[str, Any], rows: Sequence[Row], where: str) -> str:
    """Replace every marked block of a markdown text.

    Raises:
        ValueError: for a table that is not defined, a cell of several rows of one seed or without a score, or a
            marker that is not closed.
    """
    tables, notes = definitions['tables'], definitions.get('notes') or {}
    try:
        check_markers(text)
    except ValueError as error:
        raise ValueError(f'{where}: {error}') from None

    def block(match: 're.Match[str]') -> str:
        name = match['name']
        if name not in tables:
            raise ValueError(f'{where}: no table {name!r}; experiments/tables.yml defines {sorted(tables)}')
        try:
            table = render_table(tables[name], rows, notes)
        except ValueError as error:
            raise ValueError(f'{where}: table {name}: {error}') from None
        return f'<!-- results: {name} -->\n\n{table}\n\n<!-- /results -->'

    return _BLOCK.sub(block, text)


# ---- all files -------------------------------------------------------------------------------------------------------


def updated_files(root: Path, definitions: Path) -> Iterator[tuple[Path, str]]:
    """Yield the files whose tables differ from the CSV, with their right content.

    Raises:
        ValueError: see `fill_markdown`.
    """
    content = read_definitions(definitions)
    files = [content['csv']] if isinstance(content['csv'], str) else content['csv']
    rows = [row for file in files for row in read_rows(root / file)]
    check_runs(content, rows, definitions, root)
    for path in sorted({path for pattern in MARKDOWN for path in root.glob(pattern)}):
        old = path.read_text(encoding='utf-8')
        new = fill_markdown(old, content, rows, str(path))
        if new != old:
            yield path, new
    # The hash of the weights ends the name of the folder.
    folders = {path.name.rpartition('-')[0]: path for path in sorted((root / SHIPPED).glob('*'))}
    shipped = {name: shipped_weights(path, root) for name, path in folders.items()}
    for path in sorted(root.glob(METAFILES)):
        old = path.read_text(encoding='utf-8')
        new = fill_metafile(old, rows, content.get('notes') or {}, lambda config: scored_dataset(root / config))
        new = fill_shipped(new, shipped)
        if new != old:
            yield path, new


def main(arguments: Sequence[str] | None = None) -> int:
    """Write or check all files; exit code 1 if a check failed, 2 for a faulty file."""
    root = Path(__file__).resolve().parents[2]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--check', action='store_true', help='write nothing; exit code 1 if a file is out of date')
    parser.add_argument('--root', type=Path, default=root, help='folder of the project')
    args = parser.parse_args(arguments)
    try:
        outdated = list(updated_files(args.root, args.root / 'experiments/tables.yml'))
    except (ValueError, OSError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    for path, text in outdated:
        print(f'{"out of date" if args.check else "written"}: {path}')
        if not args.check:
            path.write_text(text, encoding='utf-8')
    return int(args.check and bool(outdated))


if __name__ == '__main__':
    sys.exit(main())
