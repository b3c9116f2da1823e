"""What a local store holds beside the vectors, in SQLite."""

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from mmdml.index.vector_store import Item, Row, Where, check_where
from mmdml.utils.files import replaced_when_whole
from mmdml.utils.names import printable

_VERSION = 1
# A row is never removed: its id is the place of its vector. Deleted rows have state 1.
_SCHEMA = """
CREATE TABLE facts (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE rows (
    id INTEGER PRIMARY KEY,
    path BLOB NOT NULL,
    label BLOB NOT NULL,
    size INTEGER NOT NULL,
    content_hash TEXT NOT NULL,
    checksum INTEGER NOT NULL,
    state INTEGER NOT NULL DEFAULT 0
);
CREATE UNIQUE INDEX live_paths ON rows (path) WHERE state = 0;
CREATE INDEX live_labels ON rows (label) WHERE state = 0;
CREATE INDEX live_rows ON rows (id) WHERE state = 0;
"""
_ITEM = 'path, label, size, content_hash'
# Most ids in one statement.
_IDS = 500


class Catalog:
    """Rows and facts of a store.

    Args:
        path: of the database.
        write: allow changes.

    Raises:
        ValueError: the file is no catalog, or of another version.
    """

    def __init__(self, path: Path, write: bool) -> None:
        self._changes = 0
        self.path = path
        self._database = _connect(path, write)
        try:
            self.facts: dict[str, Any] = dict(self._database.execute('SELECT name, value FROM facts'))
        except sqlite3.DatabaseError as error:
            self.close()
            raise ValueError(f'{printable(path)} is no catalog of a store: {error}') from None
        if self.facts.get('version') != _VERSION:
            self.close()
            raise ValueError(f'{printable(path)} has version {self.facts.get("version")}, this mmdml reads {_VERSION}')

    @staticmethod
    def create(path: Path, facts: dict[str, Any]) -> None:
        """Make a catalog without rows, whole or not at all."""
        with replaced_when_whole(path) as beside:
            database = sqlite3.connect(beside, isolation_level=None)
            try:
                database.execute('PRAGMA journal_mode = WAL')
                database.executescript(_SCHEMA)
                database.executemany('INSERT INTO facts VALUES (?, ?)', [*facts.items(), ('version', _VERSION)])
            finally:
                database.close()

    @property
    def change(self) -> tuple[int, int]:
        """A value that differs after any change of the rows, by this process or another."""
        return self._changes, self._database.execute('PRAGMA data_version').fetchone()[0]

    @contextmanager
    def transaction(self, write: bool = False) -> Iterator[None]:
        """Let what is read in the block be of one moment, and what is written become true at its end."""
        self._database.execute('BEGIN IMMEDIATE' if write else 'BEGIN')
        try:
            yield
            self._database.execute('COMMIT')
        except BaseException:
            if self._database.in_transaction:
                self._database.execute('ROLLBACK')
            raise
        self._changes += write

    def written(self) -> int:
        """Return the number of rows, deleted ones too."""
        return self._database.execute('SELECT coalesce(max(id), -1) + 1 FROM rows').fetchone()[0]

    def add(self, first: int, items: Sequence[Item], checksums: Sequence[int]) -> None:
        """Add rows from id ``first`` on; live rows of the same paths are deleted."""
        paths = [(_bytes(item.path),) for item in items]
        self._database.executemany('UPDATE rows SET state = 1 WHERE path = ? AND state = 0', paths)
        self._database.executemany(
            f'INSERT INTO rows (id, {_ITEM}, checksum) VALUES (?, ?, ?, ?, ?, ?)',
            (
                (first + number, _bytes(item.path), _bytes(item.label), item.size, item.content_hash, checksum)
                for number, (item, checksum) in enumerate(zip(items, checksums, strict=True))
            ),
        )

    def delete(self, ids: Sequence[int]) -> int:
        """Mark rows as deleted, and return how many were not before."""
        given = ((int(each),) for each in set(ids))
        return self._database.executemany('UPDATE rows SET state = 1 WHERE id = ? AND state = 0', given).rowcount

    def ids(self, where: Where | None = None) -> np.ndarray:
        """Return the ids of the live rows that fit, in order."""
        condition, values = _condition(where)
        found = self._database.execute(f'SELECT id FROM rows WHERE state = 0{condition} ORDER BY id', values)
        return np.fromiter((each for (each,) in found), np.int64)

    def count(self, where: Where | None = None) -> int:
        """Return the number of live rows that fit."""
        condition, values = _condition(where)
        return self._database.execute(f'SELECT count(*) FROM rows WHERE state = 0{condition}', values).fetchone()[0]

    def get(self, ids: Sequence[int]) -> dict[int, Row]:
        """Return the live rows among these ids."""
        found = {}
        for start in range(0, len(ids), _IDS):
            part = [int(each) for each in ids[start : start + _IDS]]
            marks = ', '.join('?' * len(part))
            statement = f'SELECT id, {_ITEM} FROM rows WHERE state = 0 AND id IN ({marks})'
            found.update((row[0], _row(row)) for row in self._database.execute(statement, part))
        return found

    def page(self, after: int, where: Where | None, number: int) -> list[Row]:
        """Return the next live rows that fit, behind the id ``after``."""
        condition, values = _condition(where)
        statement = f'SELECT id, {_ITEM} FROM rows WHERE state = 0 AND id > ?{condition} ORDER BY id LIMIT ?'
        return [_row(row) for row in self._database.execute(statement, [after, *values, number])]

    def checksums(self, ids: Sequence[int]) -> list[int]:
        """Return the checksums of vectors that were written."""
        statement = 'SELECT checksum FROM rows WHERE id = ?'
        return [self._database.execute(statement, (int(each),)).fetchone()[0] for each in ids]

    def close(self) -> None:
        """Close the database."""
        self._database.close()


def _connect(path: Path, write: bool) -> sqlite3.Connection:
    # A name may hold any byte, also those that mean something in an address.
    address = f'file:{quote(os.fsencode(path.absolute()))}?mode={"rw" if write else "ro"}'
    options = dict(uri=True, timeout=30, isolation_level=None, check_same_thread=False)
    database = sqlite3.connect(address, **options)
    try:
        database.execute('SELECT count(*) FROM sqlite_master').fetchone()
    except sqlite3.OperationalError:
        # In a folder that cannot be written to, SQLite's own files beside the database cannot be made.
        database.close()
        if write:
            raise
        database = sqlite3.connect(f'{address}&immutable=1', **options)
    except sqlite3.DatabaseError as error:
        database.close()
        raise ValueError(f'{printable(path)} is no catalog of a store: {error}') from None
    return database


def _condition(where: Where | None) -> tuple[str, list[Any]]:
    """Return SQL that follows ``state = 0``, and its values; column names come from a fixed list."""
    text, given = '', []
    for column, values in check_where(where).items():
        text += f' AND {column} IN ({", ".join("?" * len(values))})'
        given += [_bytes(each) if column in ('path', 'label') else each for each in values]
    return text, given


def _bytes(text: str) -> bytes:
    """File names are bytes; Python keeps those that are no UTF-8 as lone surrogates, which SQLite does not take."""
    return text.encode('utf-8', 'surrogateescape')


def _row(row: tuple) -> Row:
    path, label = (each.decode('utf-8', 'surrogateescape') for each in row[1:3])
    return Row(row[0], Item(path, label, row[3], row[4]))
