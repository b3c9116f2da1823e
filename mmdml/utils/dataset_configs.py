"""Datasets named in configs."""

from collections.abc import Iterator
from typing import Any


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
