"""Fill the result tables of READMEs, docs and metafiles from the CSV of finished runs.

    python tools/analysis_tools/make_tables.py            # write
    python tools/analysis_tools/make_tables.py --check    # exit code 1 if a file is out of date

In markdown, whatever stands between ``<!-- results: NAME -->`` and ``<!-- /results -->`` is replaced by the table NAME
of ``experiments/tables.yml``::

    csv: experiments/results.csv
    tables:
      omniglot-iaa:
        caption: Omniglot, 659 unseen classes.
        command: python tools/analysis_tools/run_experiments.py experiments/omniglot_iaa.yml
        columns:
          - {header: 'Recall@1', run: base, metric: retrieval/Recall@1}
          - {header: 'Recall@1, IAA', run: iaa, metric: retrieval/Recall@1, digits: 2}
        rows:
          - label: Contrastive
            runs: {base: configs/baselines/a.py, iaa: {config: configs/iaa/a.py, options: {model.x: 1}}}

A cell is the mean over all seeds of one config and one set of options (none unless said), with the sample standard
deviation. ``metric`` may be any numeric column of the CSV. Numbers come from the CSV only.

In ``configs/*/metafile.yml``, the result with ``Source: measured`` of every model whose config has rows without options
is replaced, or added before the others. Only the lines of that one entry are rewritten; comments, order and the other
entries stay as they are, byte for byte.
"""

import argparse
import json
import re
import statistics
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from experiments import Run, metric_names, read_rows, train_arguments
from mmdml.utils.dataset_configs import leaf_datasets
from mmdml.utils.tables import markdown_table

MARKDOWN = ('*.md', 'docs/**/*.md', 'configs/**/*.md', 'projects/**/*.md', 'experiments/*.md')
METAFILES = 'configs/*/metafile.yml'
_BLOCK = re.compile(r'<!-- results: (?P<name>\S+) -->\n(?P<body>.*?)<!-- /results -->', flags=re.DOTALL)
_OPENING = re.compile(r'<!-- results: \S+ -->')

Row = dict[str, str]


def select(rows: Sequence[Row], wanted: str | dict[str, Any]) -> list[Row]:
    """Rows of one config and exactly one set of options: the seeds of one cell."""
    if isinstance(wanted, str):
        wanted = {'config': wanted}
    options = wanted.get('options') or {}
    return [row for row in rows if row['config'] == wanted['config'] and json.loads(row['options']) == options]


def mean_and_std(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean and sample standard deviation (divisor n - 1; None for one value)."""
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None


def distinct(rows: Sequence[Row], column: str) -> list[str]:
    """Values of a column, each once, in the order of the CSV."""
    return list(dict.fromkeys(row[column] for row in rows))


# ---- markdown --------------------------------------------------------------------------------------------------------


def render_cell(rows: Sequence[Row], metric: str, digits: int = 2) -> str:
    """``mean ± std`` of one metric over the given rows, or ``not run``."""
    values = [float(row[metric]) for row in rows if row.get(metric)]
    if not values:
        return 'not run'
    mean, std = mean_and_std(values)
    return f'{mean:.{digits}f}' if std is None else f'{mean:.{digits}f} ± {std:.{digits}f}'


def render_table(table: dict[str, Any], rows: Sequence[Row]) -> str:
    """A markdown table with its caption above, and below it what was run and how.

    Args:
        table: one entry of ``tables`` in ``experiments/tables.yml``.
        rows: the CSV.
    """
    headers = ['', *(column['header'] for column in table['columns'])]
    lines = []
    used: list[Row] = []
    seeds_of_cells = set()
    for line in table['rows']:
        cells = []
        for column in table['columns']:
            selected = select(rows, line['runs'][column['run']])
            cells.append(render_cell(selected, column['metric'], column.get('digits', 2)))
            used += [row for row in selected if row not in used]
            if selected:
                seeds_of_cells.add(tuple(sorted(int(row['seed']) for row in selected)))
        lines.append([line['label'], *cells])
    return '\n\n'.join(
        [table['caption'], markdown_table(headers, lines), footnote(table, used, sorted(seeds_of_cells))]
    )


def footnote(table: dict[str, Any], used: Sequence[Row], seeds: Sequence[tuple[int, ...]]) -> str:
    """How the numbers of a table came about: seeds, updates, time, commit, machine and command."""
    lines = []
    if used:
        counts = ' or '.join(f'n = {len(each)} (seeds {", ".join(map(str, each))})' for each in seeds)
        seconds = [float(row['seconds']) for row in used]
        updates = ' or '.join(sorted(distinct(used, 'updates'), key=int))
        minutes = f'{min(seconds) / 60:.1f} to {max(seconds) / 60:.1f} minutes'
        # A run that was resumed names all its commits.
        commits = dict.fromkeys(' '.join(distinct(used, 'commit')).split())
        lines += [
            f'Mean ± sample standard deviation over seeds, {counts};',
            f'scores after the last epoch, {updates} updates; {minutes} a run',
            f'on {" and on ".join(distinct(used, "machine"))};',
            f'commit {", ".join(commits)}, torch {", ".join(distinct(used, "torch"))}.',
        ]
    return '\n'.join([*lines, 'From:', '', '```shell', table['command'], '```'])


def fill_markdown(text: str, tables: dict[str, Any], rows: Sequence[Row], where: str) -> str:
    """Replace every marked block of a markdown text.

    Raises:
        ValueError: for a table that is not defined, or an opening marker without its end.
    """

    def block(match: 're.Match[str]') -> str:
        name = match['name']
        if name not in tables:
            raise ValueError(f'{where}: no table {name!r}; experiments/tables.yml defines {sorted(tables)}')
        return f'<!-- results: {name} -->\n\n{render_table(tables[name], rows)}\n\n<!-- /results -->'

    if any(_OPENING.search(match['body']) for match in _BLOCK.finditer(text)) or (
        len(_OPENING.findall(text)) != len(_BLOCK.findall(text))
    ):
        raise ValueError(f'{where}: a "<!-- results: NAME -->" line has no "<!-- /results -->" after it')
    return _BLOCK.sub(block, text)


# ---- metafiles -------------------------------------------------------------------------------------------------------


def measured_result(rows: Sequence[Row], dataset: str) -> dict[str, Any]:
    """The metafile entry for the seeds of one config without options.

    Args:
        rows: one row per seed.
        dataset: name of the data set that was tested on.
    """
    rows = sorted(rows, key=lambda row: int(row['seed']))
    metrics, stds = {}, {}
    for column in metric_names(rows):
        if column.endswith('_std'):  # over the draws of one run; Std is over the seeds
            continue
        values = [float(row[column]) for row in rows if row[column]]
        if values:
            name = column.removeprefix('retrieval/')
            mean, std = mean_and_std(values)
            metrics[name] = round(mean, 2)
            if std is not None:
                stds[name] = round(std, 2)
    seeds = [int(row['seed']) for row in rows]
    command = ' '.join(['python tools/train.py', *train_arguments(Run('', rows[0]['config'], seeds[0]))])
    return {
        'Task': 'Image Retrieval',
        'Dataset': dataset,
        'Metrics': metrics,
        'Std': stds,
        'Source': 'measured',
        'Seeds': seeds,
        'Updates': sorted({int(row['updates']) for row in rows}),
        'Commit': ', '.join(distinct(rows, 'commit')),
        'Hardware': ', '.join(distinct(rows, 'machine')),
        'Command': command,
    }


def fill_metafile(text: str, rows: Sequence[Row], dataset_of: Any) -> str:
    """Replace or add the measured result of every model in a metafile's text.

    Args:
        text: the metafile.
        rows: the CSV.
        dataset_of: function of a config path that returns the name of the data set it is scored on.
    """
    edits = []
    for model in _get(yaml.compose(text), 'Models').value:
        config = _get(model, 'Config').value
        selected = select(rows, config)
        if selected:
            edits.append(_edit(text, model, measured_result(selected, dataset_of(config))))
    # From the end, so that earlier positions stay valid.
    for start, end, new in sorted(edits, reverse=True):
        text = text[:start] + new + text[end:]
    return text


def _edit(text: str, model: yaml.MappingNode, result: dict[str, Any]) -> tuple[int, int, str]:
    """Slice of the text to replace for one model, and what to put there."""
    results = _get(model, 'Results')
    if results is None or not isinstance(results, yaml.SequenceNode) or results.flow_style:
        indent = model.start_mark.column
        block = f'{" " * indent}Results:\n{_entry(result, indent + 2)}'
        if results is None:
            # Behind the line, which may end in a comment.
            line_end = text.find('\n', _end(model))
            end = len(text) if line_end < 0 else line_end
            return end, end, f'\n{block}'
        key = next(key for key, _ in model.value if key.value == 'Results')
        return key.start_mark.index, results.end_mark.index, block.lstrip()
    for entry in results.value:
        if getattr(_get(entry, 'Source'), 'value', None) == 'measured':
            return _line_start(text, entry), _end(entry), _entry(result, entry.start_mark.column - 2)
    first = results.value[0]
    start = _line_start(text, first)
    return start, start, _entry(result, first.start_mark.column - 2) + '\n'


def _entry(result: dict[str, Any], indent: int) -> str:
    """A result as an item of a block sequence whose dash stands in column ``indent``; lists of numbers in one line."""
    lines = yaml.dump(result, sort_keys=False, default_flow_style=None, width=10**6).splitlines()
    return '\n'.join(' ' * indent + ('- ' if not number else '  ') + line for number, line in enumerate(lines))


def _get(mapping: yaml.MappingNode, key: str) -> yaml.Node | None:
    return next((value for name, value in mapping.value if name.value == key), None)


def _end(node: yaml.Node) -> int:
    """Where the last scalar or flow collection of a node ends; a block's own end mark lies behind later comments."""
    while node.value and not isinstance(node, yaml.ScalarNode) and not node.flow_style:
        last = node.value[-1]
        node = last[1] if isinstance(last, tuple) else last
    return node.end_mark.index


def _line_start(text: str, node: yaml.Node) -> int:
    return text.rfind('\n', 0, node.start_mark.index) + 1


def scored_dataset(config: str | Path) -> str:
    """Name of the data set that a run's last validation scores, with the test list where there are several."""
    from mmengine.config import Config

    dataset = next(leaf_datasets(Config.fromfile(config).val_dataloader.dataset))
    size = f' ({dataset.size})' if 'size' in dataset else ''
    return dataset.type.rpartition('.')[2] + size


# ---- all files -------------------------------------------------------------------------------------------------------


def updated_files(root: Path, definitions: Path) -> Iterator[tuple[Path, str]]:
    """Files whose tables differ from the CSV, with their right content.

    Raises:
        ValueError: see `fill_markdown`.
    """
    content = yaml.safe_load(definitions.read_text(encoding='utf-8'))
    rows = read_rows(root / content['csv'])
    for path in sorted({path for pattern in MARKDOWN for path in root.glob(pattern)}):
        old = path.read_text(encoding='utf-8')
        new = fill_markdown(old, content['tables'], rows, str(path))
        if new != old:
            yield path, new
    for path in sorted(root.glob(METAFILES)):
        old = path.read_text(encoding='utf-8')
        new = fill_metafile(old, rows, lambda config: scored_dataset(root / config))
        if new != old:
            yield path, new


def main(arguments: Sequence[str] | None = None) -> int:
    """Write or check all files; the exit code says whether a check failed."""
    root = Path(__file__).resolve().parents[2]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--check', action='store_true', help='write nothing; exit code 1 if a file is out of date')
    parser.add_argument('--root', type=Path, default=root, help='folder of the project')
    args = parser.parse_args(arguments)
    outdated = list(updated_files(args.root, args.root / 'experiments/tables.yml'))
    for path, text in outdated:
        print(f'{"out of date" if args.check else "written"}: {path}')
        if not args.check:
            path.write_text(text, encoding='utf-8')
    return int(args.check and bool(outdated))


if __name__ == '__main__':
    sys.exit(main())
