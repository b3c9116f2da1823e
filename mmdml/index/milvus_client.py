"""Milvus as the store speaks to it: addresses, collections, texts that its filters take, errors in a line."""

import json
import logging
import logging.config
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mmdml.index.checks import check_where
from mmdml.index.vector_store import COLUMNS, Item, Row, Wanted, Where
from mmdml.utils.names import printable

# Bytes of a text at most.
_TEXT = 16_384


class MilvusAddress(NamedTuple):
    """Where a store is.

    Attributes:
        uri: of a cluster, or the path of a milvus-lite file.
        collection: that holds the rows; another with the ending ``_facts`` holds what is true of the store.
        lite: whether it is a file.
    """

    uri: str
    collection: str
    lite: bool

    @classmethod
    def of(cls, address: str | Path) -> 'MilvusAddress':
        """Read ``https://host:19530#collection`` or ``photos.db``."""
        text = os.fspath(address)
        if is_cluster(text):
            uri, _, collection = text.partition('#')
            return cls(uri, collection or 'mmdml', False)
        return cls(os.path.abspath(text), 'mmdml', True)


def is_cluster(address: str) -> bool:
    """Whether an address is that of a Milvus server."""
    return address.startswith(('http://', 'https://'))


def connect(address: MilvusAddress) -> Any:
    """Return a client; a cluster's token is taken from ``MILVUS_TOKEN``.

    Raises:
        ImportError: pymilvus or milvus-lite is not installed.
        RuntimeError: nothing answers, or another process uses the file.
    """
    os.environ.setdefault('GRPC_VERBOSITY', 'NONE')
    try:
        with _logging_as_it_is():
            import pymilvus

            if address.lite:
                import milvus_lite  # noqa: F401
    except ImportError as error:
        raise ImportError(f"a Milvus store needs {error.name}: pip install 'mmdml[milvus]'") from None
    # Each failure is raised here, in a line; their logs would show it with a traceback of their own.
    for name in ('pymilvus', 'milvus_lite', 'grpc', *logging.root.manager.loggerDict):
        if name.partition('.')[0] in ('pymilvus', 'milvus_lite', 'grpc'):
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    try:
        return pymilvus.MilvusClient(address.uri, token=os.environ.get('MILVUS_TOKEN', ''))
    except Exception as error:
        hint = 'one process at a time may use a milvus-lite file' if address.lite else 'is the server up?'
        raise RuntimeError(f'{printable(address.uri)} cannot be opened ({_line(error)}); {hint}') from None


@contextmanager
def _logging_as_it_is() -> Iterator[None]:
    """Import a package that sets up logging, without that: it closes every handler of the process, log files too."""
    configure = logging.config.dictConfig
    logging.config.dictConfig = lambda config: None
    try:
        yield
    finally:
        logging.config.dictConfig = configure


@contextmanager
def errors_of(address: MilvusAddress) -> Iterator[None]:
    """Raise what Milvus raises as an OSError in one line."""
    import pymilvus

    try:
        yield
    except pymilvus.exceptions.MilvusException as error:
        raise OSError(f'{printable(address.uri)}: Milvus refused: {_line(error)}') from error


def _create_collections(client: Any, address: MilvusAddress, dimensions: int) -> None:
    """Make the two collections of a store, that of the facts last."""
    from pymilvus import DataType

    rows = client.create_schema(auto_id=True, enable_dynamic_field=False)
    rows.add_field('id', DataType.INT64, is_primary=True)
    rows.add_field('vector', DataType.FLOAT_VECTOR, dim=dimensions)
    rows.add_field('path', DataType.VARCHAR, max_length=_TEXT)
    rows.add_field('label', DataType.VARCHAR, max_length=_TEXT)
    rows.add_field('size', DataType.INT64)
    rows.add_field('content_hash', DataType.VARCHAR, max_length=_TEXT)
    rows.add_field('metadata', DataType.JSON)
    facts = client.create_schema(auto_id=False, enable_dynamic_field=False)
    facts.add_field('id', DataType.INT64, is_primary=True)
    facts.add_field('facts', DataType.JSON)
    facts.add_field('nothing', DataType.FLOAT_VECTOR, dim=2)  # a collection must have a vector
    for name in (address.collection, f'{address.collection}_facts'):
        if client.has_collection(name):
            if client.get_collection_stats(name)['row_count']:
                raise ValueError(
                    f'{printable(address.uri)} has a collection {name} that is not part of a store; choose another '
                    'with ADDRESS#COLLECTION'
                )
            client.drop_collection(name)  # what a killed process left before there were facts
    for name, schema, vector in (
        (address.collection, rows, 'vector'),
        (f'{address.collection}_facts', facts, 'nothing'),
    ):
        client.create_collection(name, schema=schema, consistency_level='Strong')
        create_index(client, name, vector, 'FLAT', {})


def create_store(client: Any, address: MilvusAddress, wanted: Wanted) -> dict[str, Any]:
    """Make a store without rows, and return its facts."""
    facts = dict(wanted.for_new_store(), version=1, names=[], unfinished=False, structure='flat')
    _create_collections(client, address, facts['dimensions'])
    write_facts(client, address, facts)
    return facts


def create_index(client: Any, collection: str, field: str, kind: str, options: Mapping[str, int]) -> None:
    """Make the index of a collection anew, and load the collection."""
    if client.list_indexes(collection, field):
        client.release_collection(collection)
        client.drop_index(collection, client.list_indexes(collection, field)[0])
    index = client.prepare_index_params()
    index.add_index(field, index_type=kind, metric_type='IP', params=dict(options))
    client.create_index(collection, index)
    client.load_collection(collection)


def read_facts(client: Any, address: MilvusAddress) -> dict[str, Any]:
    """Return what is true of a store; nothing if there is none."""
    name = f'{address.collection}_facts'
    if not client.has_collection(name) or not client.list_indexes(name):
        return {}
    client.load_collection(name)
    found = client.get(name, [0])
    return dict(found[0]['facts']) if found else {}


def write_facts(client: Any, address: MilvusAddress, facts: Mapping[str, Any]) -> None:
    """Replace what is true of a store."""
    client.upsert(f'{address.collection}_facts', [dict(id=0, facts=dict(facts), nothing=[0.0, 1.0])])


def condition(where: Where | None, names: Sequence[str]) -> str:
    """Return the filter expression of ``where``, empty for all rows."""
    parts = []
    for column, values in check_where(where, names).items():
        field = column if column in COLUMNS else f'metadata[{literal(column)}]'
        given = [str(each) if column == 'size' else literal(encoded(str(each))) for each in values]
        # milvus-lite knows "in" for columns, not for entries of a JSON column.
        parts.append(' or '.join(f'{field} == {each}' for each in given) or 'id in []')
    return ' and '.join(f'({part})' for part in parts)


def literal(text: str) -> str:
    """Return a text as a filter has it."""
    return json.dumps(text, ensure_ascii=False)


def encoded(text: str) -> str:
    r"""Return a text of printable characters: all others, and bytes that are no UTF-8, as ``\x0a``."""
    return ''.join(
        each
        if each.isprintable() and each != '\\'
        else ''.join(f'\\x{byte:02x}' for byte in each.encode('utf-8', 'surrogateescape'))
        for each in text
    )


def decoded(text: str) -> str:
    """Return the text that :func:`encoded` got."""
    data = re.sub(rb'\\x([0-9a-f]{2})', lambda found: bytes([int(found[1], 16)]), text.encode())
    return data.decode('utf-8', 'surrogateescape')


def entity_of(vector: np.ndarray, item: Item) -> dict[str, Any]:
    """Return a row as Milvus takes it."""
    return dict(
        vector=vector,
        path=encoded(item.path),
        label=encoded(item.label),
        size=int(item.size),
        content_hash=item.content_hash,
        metadata={name: encoded(value) for name, value in item.metadata.items()},
    )


def row_of(entity: dict[str, Any]) -> Row:
    """Return a row as the store has it."""
    metadata = {name: decoded(value) for name, value in entity['metadata'].items()}
    path, label = decoded(entity['path']), decoded(entity['label'])
    return Row(entity['id'], Item(path, label, entity['size'], entity['content_hash'], metadata))


def _line(error: Exception) -> str:
    return printable(' '.join(str(getattr(error, 'message', '') or error).split()))[:300]
