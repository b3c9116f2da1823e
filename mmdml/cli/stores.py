"""Stores and their models, as commands name them."""

import os
from collections.abc import Sequence
from typing import Any

from mmdml.apis import ImageEmbeddingInferencer
from mmdml.apis.model_index import DEFAULT
from mmdml.apis.model_names import find_model
from mmdml.cli.options import quiet_loading
from mmdml.index import VectorStore, open_store
from mmdml.utils.names import printable


def open_to_write(options: dict[str, Any]) -> tuple[ImageEmbeddingInferencer, VectorStore]:
    """Return what embeds, and the store for its vectors.

    Args:
        options: address and model of the command, and what the inferencer takes.
    """
    address, model = options['address'], options['model']
    if model is None:
        model = _model_of(address)
    embed = inferencer(model, options)
    name = find_model(model).absolute
    return embed, open_store(address, embed.dimensions, embed.model_hash, write=True, model=name)


def open_to_read(options: dict[str, Any]) -> tuple[ImageEmbeddingInferencer, VectorStore]:
    """Return what embeds, and a store of its vectors.

    Args:
        options: as :func:`open_to_write` takes them.
    """
    store = open_store(options['address'])
    try:
        return inferencer(options['model'] or _named_model(store, options['address']), options), store
    except BaseException:
        store.close()
        raise


def inferencer(model: str, options: dict[str, Any]) -> ImageEmbeddingInferencer:
    """Return what embeds, as the options of a command say."""
    quiet_loading()
    given = {name: options[name] for name in ('batch_size', 'workers', 'device') if name in options}
    return ImageEmbeddingInferencer(model, **given)


def chosen(conditions: Sequence[str]) -> dict[str, list[str]]:
    """Return ``where`` of conditions such as ``label=beech``; several of one column allow several values.

    Stores keep absolute paths; one from here, as ``mmdml search`` shows it, means the same picture.

    Raises:
        ValueError: one is no such condition.
    """
    where: dict[str, list[str]] = {}
    for condition in conditions:
        column, equals, value = condition.partition('=')
        if not equals or not column:
            raise ValueError(f'--where {condition!r} must be like label=beech')
        where.setdefault(column, []).append(os.fsdecode(os.fsencode(value)))
    if 'path' in where:
        where['path'] += [os.path.abspath(path) for path in where['path']]
    return where


def _model_of(address: str) -> str:
    """Name of the model that a store was made with; of a new store the default model."""
    try:
        with open_store(address) as store:
            return _named_model(store, address)
    except FileNotFoundError:
        return DEFAULT


def _named_model(store: VectorStore, address: str) -> str:
    if not store.model:
        raise ValueError(f'{printable(address)} does not name its model; name it with --model')
    return store.model
