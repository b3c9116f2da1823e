"""Datasets named in configs."""

import os.path as osp
from collections.abc import Iterator
from typing import Any

#: Sets that are lists of pictures, by the folder that their configs name; docs/protocol.md says how each was made.
_LISTED = {
    'grocery': 'Grocery',
    'grocery_gallery': 'Grocery of mmdml demo',
    'cars196_trainhalf': 'Cars196 (half)',
    'cub50': 'CUB200 (50 classes)',
}


def leaf_datasets(dataset: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the configs of the datasets themselves, from inside concatenations and wrappers.

    Args:
        dataset: config of a dataset, with ``datasets`` or ``dataset`` where it is made of others.

    Example:
        >>> inner = [dict(type='VehicleID', size=size) for size in ('small', 'large')]
        >>> [part['size'] for part in leaf_datasets(dict(type='RetrievalConcatDataset', datasets=inner))]
        ['small', 'large']
    """
    inner = dataset.get('datasets') or ([dataset['dataset']] if 'dataset' in dataset else None)
    if inner is None:
        yield dataset
        return
    for part in inner:
        yield from leaf_datasets(part)


def dataset_name(dataset: dict[str, Any]) -> str:
    """Return the name of a dataset in tables: its class, for a list of pictures the set that it lists.

    Example:
        >>> dataset_name(dict(type='mmdml.Omniglot')), dataset_name(dict(type='ImageList', data_root='data/cub50'))
        ('Omniglot', 'CUB200 (50 classes)')
    """
    kind = dataset['type'].rpartition('.')[2]
    return _LISTED.get(osp.basename(dataset.get('data_root') or ''), kind) if kind == 'ImageList' else kind
