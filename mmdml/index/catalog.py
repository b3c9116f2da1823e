"""What a local store holds beside the vectors, in SQLite."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from mmdml.index.checks import check_counted, check_where
from mmdml.index.database import VERSION, connect, file_state
from mmdml.index.vector_store import COLUMNS, Item, Row, Where
from mmdml.utils.names import printable

_ITEM = ', '.join(COLUMNS)
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
        self._connection, self._unchanged = connect(path, write)
        try:
            facts = self.facts()
        except sqlite3.DatabaseError as error:
            self.close()
            raise ValueError(f'{printable(path)} is no catalog of a store: {error}') from None
        if facts.get('version') != VERSION:
            self.close()
            raise ValueError(
                f'{printable(path)} has version {facts.get("version")}, this mmdml reads {VERSION}; make the store anew'
            )

    def facts(self) -> dict[str, Any]:
        """Return what holds for the whole store."""
        return dict(self._database.execute('SELECT name, value FROM facts'))

    @property
    def change(self) -> tuple[int, int]:
        """A value that differs after any change of the rows, by this process or another."""
        # First: a new connection counts as a change.
        version = self._database.execute('PRAGMA data_version').fetchone()[0]
        return self._changes, version

    @contextmanager
    def transaction(self, write: bool = False) -> Iterator[None]:
        """Let what is read in the block be of one moment, and what is written become true at its end."""
        self._database.execute('BEGIN IMMEDIATE' if write else 'BEGIN')
        try:
            yield
            self._connection.execute('COMMIT')
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute('ROLLBACK')
            raise
        self._changes += write

    def places(self) -> int:
        """Return the number of vectors that rows have, deleted rows too."""
        return self._database.execute('SELECT coalesce(max(place), -1) + 1 FROM rows').fetchone()[0]

    def next_id(self) -> int:
        """Return an id above all that were ever given."""
        statement = "SELECT max((SELECT coalesce(max(id), -1) + 1 FROM rows), value) FROM facts WHERE name = 'next_id'"
        return self._database.execute(statement).fetchone()[0]

    def add(self, first: int, place: int, items: Sequence[Item], checksums: Sequence[int]) -> None:
        """Add rows with ids from ``first`` and places from ``place`` on; live rows of the same paths are deleted."""
        paths = [(_bytes(item.path),) for item in items]
        self._database.executemany('UPDATE rows SET state = 1 WHERE path = ? AND state = 0', paths)
        self._database.executemany(
            f'INSERT INTO rows (id, place, {_ITEM}, checksum) VALUES (?, ?, ?, ?, ?, ?, ?)',
            (
                (
                    first + n,
                    place + n,
                    _bytes(item.path),
                    _bytes(item.label),
                    int(item.size),
                    item.content_hash,
                    checksum,
                )
                for n, (item, checksum) in enumerate(zip(items, checksums, strict=True))
            ),
        )
        given = [
            (first + n, name, _bytes(text)) for n, item in enumerate(items) for name, text in item.metadata.items()
        ]
        self._database.executemany('INSERT INTO metadata VALUES (?, ?, ?)', given)
        names = {(name,) for _, name, _ in given}
        self._database.executemany('INSERT OR IGNORE INTO names VALUES (?)', sorted(names))

    def delete(self, ids: Sequence[int]) -> int:
        """Mark rows as deleted, and return how many were not before."""
        given = ((each,) for each in set(ids))
        return self._database.executemany('UPDATE rows SET state = 1 WHERE id = ? AND state = 0', given).rowcount

    def compact(self, **facts: Any) -> None:
        """Remove what is left of deleted rows, number the places anew in their order, and change facts."""
        self._database.execute(
            'INSERT OR REPLACE INTO facts VALUES (?, ?)', ('next_id', self.next_id())
        )  # ids are not given twice
        self._database.execute('DELETE FROM metadata WHERE row IN (SELECT id FROM rows WHERE state = 1)')
        self._database.execute('DELETE FROM rows WHERE state = 1')
        # Places only become smaller, and each is free by the time it is given.
        ordered = self._database.execute('SELECT id, place FROM rows ORDER BY place').fetchall()
        moved = [(new, id) for new, (id, place) in enumerate(ordered) if new != place]
        self._database.executemany('UPDATE rows SET place = ? WHERE id = ?', moved)
        self._database.executemany('INSERT OR REPLACE INTO facts VALUES (?, ?)', facts.items())

    def live(self, where: Where | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Return ids and places of the live rows that fit, both in increasing order."""
        condition, values = self._condition(where)
        statement = f'SELECT id, place FROM rows WHERE state = 0{condition} ORDER BY id'
        found = np.fromiter(self._database.execute(statement, values), np.dtype((np.int64, 2)))
        return np.ascontiguousarray(found[:, 0]), np.ascontiguousarray(found[:, 1])

    def count(self, where: Where | None = None) -> int:
        """Return the number of live rows that fit."""
        condition, values = self._condition(where)
        return self._database.execute(f'SELECT count(*) FROM rows WHERE state = 0{condition}', values).fetchone()[0]

    def get(self, ids: Sequence[int]) -> dict[int, Row]:
        """Return the live rows among these ids, by id."""
        found = {}
        for start in range(0, len(ids), _IDS):
            part = ids[start : start + _IDS]
            statement = f'SELECT id, {_ITEM} FROM rows WHERE state = 0 AND id IN ({_marks(part)})'
            found.update((row.id, row) for row in self._rows(self._database.execute(statement, part).fetchall()))
        return found

    def page(self, after: int, where: Where | None, number: int) -> list[Row]:
        """Return the next live rows that fit, behind the id ``after``."""
        condition, values = self._condition(where)
        statement = f'SELECT id, {_ITEM} FROM rows WHERE state = 0 AND id > ?{condition} ORDER BY id LIMIT ?'
        return self._rows(self._database.execute(statement, [after, *values, number]).fetchall())

    def values(self, column: str) -> dict[str, int]:
        """Return how many live rows have which label or value of their metadata."""
        check_counted(column, self._names())
        if column == 'label':
            statement, given = 'SELECT label, count(*) FROM rows WHERE state = 0 GROUP BY label', ()
        else:
            statement = (
                'SELECT value, count(*) FROM metadata JOIN rows ON rows.id = metadata.row '
                'WHERE state = 0 AND name = ? GROUP BY value'
            )
            given = (column,)
        return {_text(value): count for value, count in self._database.execute(statement, given)}

    def checksums(self, places: Sequence[int]) -> list[int]:
        """Return the checksums of vectors that were written."""
        statement = 'SELECT checksum FROM rows WHERE place = ?'
        return [self._database.execute(statement, (int(each),)).fetchone()[0] for each in places]

    def checksum_of(self, id: int) -> int | None:
        """Return the checksum of the vector of a row, deleted or not; None if there is none."""
        found = self._database.execute('SELECT checksum FROM rows WHERE id = ?', (int(id),)).fetchone()
        return found and found[0]

    def close(self) -> None:
        """Close the database."""
        self._connection.close()

    @property
    def _database(self) -> sqlite3.Connection:
        """The connection; a new one where the file has changed under a connection that does not see it."""
        is_fixed = self._unchanged is not None and not self._connection.in_transaction
        if is_fixed and file_state(self.path) != self._unchanged:
            # The old one goes when the new one is there: a file that is just being written can be opened later.
            connection, unchanged = connect(self.path, write=False)
            self._connection.close()
            self._connection, self._unchanged = connection, unchanged
            self._changes += 1
        return self._connection

    def _names(self) -> set[str]:
        return {name for (name,) in self._database.execute('SELECT name FROM names')}

    def _rows(self, found: list[tuple]) -> list[Row]:
        """Rows of ``id, path, label, size, content_hash``, with their metadata."""
        metadata: dict[int, dict[str, str]] = {}
        for start in range(0, len(found), _IDS):
            ids = [row[0] for row in found[start : start + _IDS]]
            statement = f'SELECT row, name, value FROM metadata WHERE row IN ({_marks(ids)})'
            for id, name, value in self._database.execute(statement, ids):
                metadata.setdefault(id, {})[name] = _text(value)
        return [
            Row(id, Item(_text(path), _text(label), size, content_hash, metadata.get(id, {})))
            for id, path, label, size, content_hash in found
        ]

    def _condition(self, where: Where | None) -> tuple[str, list[Any]]:
        """Return SQL that follows ``state = 0``, and its values; column names come from a fixed list."""
        text, given = '', []
        for column, values in check_where(where, self._names() if where else ()).items():
            values = [each if column in ('size', 'content_hash') else _bytes(each) for each in values]
            if column in COLUMNS:
                text += f' AND {column} IN ({_marks(values)})'
            else:
                text += f' AND id IN (SELECT row FROM metadata WHERE name = ? AND value IN ({_marks(values)}))'
                given.append(column)
            given += values
        return text, given


def _marks(values: Sequence[Any]) -> str:
    return ', '.join('?' * len(values))


def _bytes(text: str) -> bytes:
    """File names are bytes; Python keeps those that are no UTF-8 as lone surrogates, which SQLite does not take."""
    return text.encode('utf-8', 'surrogateescape')


def _text(data: bytes) -> str:
    return data.decode('utf-8', 'surrogateescape')
