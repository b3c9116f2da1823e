"""Files that a run of a config writes: none that it reads, and each of them once."""

import os.path as osp
from collections.abc import Iterator
from typing import Any

from mmdml.cli.config_paths import walk
from mmdml.evaluation.value_tables import class_table
from mmdml.functional.shard_reader import files_of
from mmdml.utils.dataset_configs import leaf_datasets
from mmdml.utils.files import prepare_output, require_distinct

_PARTS = ('train', 'val', 'test')


def check_outputs(cfg: Any, out: str | None = None) -> None:
    """Refuse outputs of a run that are among its inputs, before anything is read or computed.

    Inputs are the config, the checkpoint, lists, features and labels of the datasets of all parts, and the embeddings
    that a whitening is fitted on. Outputs are ``out`` and ``values_out`` of the metrics.

    Args:
        cfg: whole config.
        out: one more output, of ``--out``.

    Raises:
        ValueError: an output is an input, or there twice, also through links; names it.
        OSError: an output cannot be written.
    """
    inputs = [str(file) for path in _inputs(cfg) for file in files_of(path)]
    for part in _PARTS:
        outputs = list(_outputs(cfg.get(f'{part}_evaluator'), f'{part}_evaluator'))
        if part == 'test' and out is not None:
            outputs.insert(0, ('--out', out))
        for option, path in outputs:
            _prepare(option, path, inputs)
        require_distinct(dict(outputs))


def _inputs(cfg: Any) -> Iterator[str]:
    read = [cfg.get('load_from'), getattr(cfg, 'filename', None)]
    for part in _PARTS:
        dataset = (cfg.get(f'{part}_dataloader') or {}).get('dataset')
        for leaf in leaf_datasets(dataset) if isinstance(dataset, dict) else ():
            files = (leaf.get('ann_file'), leaf.get('label_file'))
            read += [osp.join(leaf.get('data_root') or '', file) for file in files if isinstance(file, str) and file]
        read += [value for path, value in walk(cfg.get(f'{part}_evaluator')) if path.endswith('whitening.fit')]
    return (path for path in read if isinstance(path, str) and path)


def _outputs(evaluator: Any, where: str) -> Iterator[tuple[str, str]]:
    for path, value in walk(evaluator, where):
        name = path.rpartition('.')[2]
        if name in ('out', 'values_out') and isinstance(value, str):
            yield path, value
            if name == 'values_out':
                yield f'{path} by class', class_table(value)


def _prepare(option: str, path: str, inputs: list[str]) -> None:
    try:
        prepare_output(path, inputs=inputs)
    except ValueError as error:
        raise ValueError(f'{option}: {error}') from error
