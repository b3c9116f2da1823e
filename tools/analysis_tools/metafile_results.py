"""Measured results and shipped weights in metafiles: an entry is replaced or added, and every other byte stays."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from results import Row, metric_names
from row_checks import refuse_empty
from selected_rows import commits_of, distinct, mean_and_std, notes_of, select

from experiments import Run, train_arguments
from mmdml.utils.dataset_configs import dataset_name, leaf_datasets


def measured_result(rows: Sequence[Row], dataset: str, notes: dict[str, str]) -> dict[str, Any]:
    """Return the metafile entry for the seeds of one config without options.

    Args:
        rows: one row per seed.
        dataset: name of the dataset that was tested on.
        notes: what is to be said of the rows of a commit, by commit.
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
    said = notes_of(rows, notes)
    return {
        'Task': 'Image Retrieval',
        'Dataset': dataset,
        'Metrics': metrics,
        'Std': stds,
        'Source': 'measured',
        'Seeds': seeds,
        'Updates': sorted({int(row['updates']) for row in rows}),
        'Commit': ', '.join(commits_of(rows)),
        'Hardware': ', '.join(distinct(rows, 'machine')),
        'Command': command,
        **({'Note': ' '.join(said)} if said else {}),
    }


def fill_metafile(text: str, rows: Sequence[Row], notes: dict[str, str], dataset_of: Any) -> str:
    """Replace or add the measured result of every model in a metafile's text.

    Args:
        text: the metafile.
        rows: the CSV.
        notes: see `measured_result`.
        dataset_of: function of a config path that returns the name of the dataset it is scored on.
    """
    edits = []
    for model in _get(yaml.compose(text), 'Models').value:
        config = _get(model, 'Config').value
        selected = select(rows, config)
        if selected:
            refuse_empty(selected, ('updates',), config)
            edits.append(_edit(text, model, measured_result(selected, dataset_of(config), notes)))
    # From the end, so that earlier positions stay valid.
    for start, end, new in sorted(edits, reverse=True):
        text = text[:start] + new + text[end:]
    return text


def shipped_weights(folder: Path, root: Path) -> dict[str, Any]:
    """Return the metafile entry for a model folder inside the package.

    Raises:
        ValueError: the command that trained it names no seed.
    """
    content = json.loads((folder / 'model.json').read_text(encoding='utf-8'))
    training = content['training']
    seed = re.search(r'randomness\.seed=(\d+)', training['command'])
    if seed is None:
        raise ValueError(f'{folder}: its training command names no randomness.seed: {training["command"]}')
    return {
        # The path in the checkout and, without its first part, in the installed package: there is no address.
        'Weights': (folder / 'weights.pth').relative_to(root).as_posix(),
        'SHA256': content['weights_hash'],
        'Precision': training['precision'],
        'Seed': int(seed[1]),
        'Commit': training['commit'],
        'Command': training['command'],
        'Tests': [
            {'Scored on': test['scored_on'], 'Metrics': test['scores'], 'Command': test['command']}
            for test in training['tests']
        ],
    }


def fill_shipped(text: str, shipped: dict[str, dict[str, Any]]) -> str:
    """Replace, add or remove ``Shipped`` of every model in a metafile's text.

    Args:
        text: the metafile.
        shipped: what `shipped_weights` returned, by name of the model.
    """
    edits = []
    for model in _get(yaml.compose(text), 'Models').value:
        old, new = _get(model, 'Shipped'), shipped.get(_get(model, 'Name').value)
        block = '\n' + _block({'Shipped': new}, model.start_mark.column) if new else ''
        before = _get(model, 'Metadata') or _get(model, 'Config')
        if old is not None:
            key = next(key for key, _ in model.value if key.value == 'Shipped')
            edits.append((_line_start(text, key) - 1, _end(old), block))
        elif new:
            # Behind the line, which may end in a comment.
            end = text.find('\n', _end(before))
            edits.append((end, end, block))
    for start, end, new in sorted(edits, reverse=True):
        text = text[:start] + new + text[end:]
    return text


def scored_dataset(config: str | Path) -> str:
    """Return the name of the dataset that a run's last validation scores, with its list, or the folder of features."""
    from mmengine.config import Config

    dataset = next(leaf_datasets(Config.fromfile(config).val_dataloader.dataset))
    part = dataset.get('size') or (dataset.data_root if dataset.type.endswith('FeatureFile') else '')
    size = f' ({part})' if part else ''
    return dataset_name(dataset) + size


def _edit(text: str, model: yaml.MappingNode, result: dict[str, Any]) -> tuple[int, int, str]:
    """Return the slice of the text to replace for one model, and what to put there."""
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


def _block(content: dict[str, Any], indent: int) -> str:
    """Write a mapping from column ``indent`` on, mappings of plain values in one line."""
    lines = yaml.dump(content, Dumper=_Indented, sort_keys=False, default_flow_style=None, width=10**6).splitlines()
    return '\n'.join(' ' * indent + line for line in lines)


class _Indented(yaml.SafeDumper):
    """Indents the items of a sequence more than its key, as the metafiles do."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


def _entry(result: dict[str, Any], indent: int) -> str:
    """Write a result as an item of a block sequence, dash in column ``indent``, lists of numbers in one line."""
    lines = yaml.dump(result, sort_keys=False, default_flow_style=None, width=10**6).splitlines()
    return '\n'.join(' ' * indent + ('- ' if not number else '  ') + line for number, line in enumerate(lines))


def _get(mapping: yaml.MappingNode, key: str) -> yaml.Node | None:
    return next((value for name, value in mapping.value if name.value == key), None)


def _end(node: yaml.Node) -> int:
    """Return where the last scalar or flow collection of a node ends; a block's end mark lies behind comments."""
    while node.value and not isinstance(node, yaml.ScalarNode) and not node.flow_style:
        last = node.value[-1]
        node = last[1] if isinstance(last, tuple) else last
    return node.end_mark.index


def _line_start(text: str, node: yaml.Node) -> int:
    return text.rfind('\n', 0, node.start_mark.index) + 1
