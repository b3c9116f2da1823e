"""Results that users called right or wrong, kept in SQLite and exported as pairs."""

import csv
import io
import os
import sqlite3
import threading
import time
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from mmdml.utils.names import printable

# Paths and labels are bytes: file names need not be UTF-8.
_SCHEMA = """
CREATE TABLE IF NOT EXISTS marks (
    store BLOB NOT NULL,
    query BLOB NOT NULL,
    picture BLOB NOT NULL,
    is_right INTEGER NOT NULL,
    query_label BLOB NOT NULL,
    picture_label BLOB NOT NULL,
    time REAL NOT NULL,
    PRIMARY KEY (store, query, picture)
);
CREATE TABLE IF NOT EXISTS uploads (name BLOB PRIMARY KEY, jpeg BLOB NOT NULL);
"""
_COLUMNS = 'store, query, picture, is_right, query_label, picture_label, time'


@dataclass(frozen=True)
class Mark:
    """A pair that a user called right or wrong.

    Attributes:
        store: address of the gallery.
        query: path of the query's picture in the gallery, or the name of an upload, ``uploads/....jpg``.
        picture: path of the result's picture.
        is_right: whether they belong together.
        query_label: label of the query, empty for an upload.
        picture_label: label of the result.
        time: when, in seconds since 1970.
    """

    store: str
    query: str
    picture: str
    is_right: bool
    query_label: str = ''
    picture_label: str = ''
    time: float = 0.0

    def shown(self, name: str) -> str:
        """Return an attribute as text that can be shown."""
        return printable(getattr(self, name))


class Marks:
    """Keep marks in a file; usable by several threads.

    Args:
        path: of the database, made with its folder if need be.

    Raises:
        ValueError: the file is another one's, or a folder.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._access = threading.Lock()
        try:
            self._database = sqlite3.connect(self.path, timeout=30, isolation_level=None, check_same_thread=False)
        except sqlite3.Error as error:
            raise ValueError(
                f'{printable(self.path)} cannot be a file of marks: {error}; choose another file'
            ) from None
        try:
            self._database.executescript(_SCHEMA)
            self._database.execute(f'SELECT {_COLUMNS} FROM marks LIMIT 1').fetchone()
        except sqlite3.DatabaseError as error:
            self._database.close()
            raise ValueError(f'{printable(self.path)} holds no marks: {error}; choose another file') from None

    def set(self, mark: Mark, jpeg: bytes | None = None) -> None:
        """Keep a mark in place of an earlier one of the same pair.

        Args:
            mark: to keep; its time is set.
            jpeg: the query's picture, where it is an upload.
        """
        values = [*map(os.fsencode, (mark.store, mark.query, mark.picture)), mark.is_right]
        values += [*map(os.fsencode, (mark.query_label, mark.picture_label)), time.time()]
        with self._access:
            if jpeg is not None:
                self._database.execute('INSERT OR IGNORE INTO uploads VALUES (?, ?)', (values[1], jpeg))
            self._database.execute(f'INSERT OR REPLACE INTO marks ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)', values)

    def remove(self, store: str, query: str, picture: str) -> None:
        """Forget the mark of a pair."""
        values = [os.fsencode(each) for each in (store, query, picture)]
        with self._access:
            self._database.execute('DELETE FROM marks WHERE store = ? AND query = ? AND picture = ?', values)
            self._database.execute(
                'DELETE FROM uploads WHERE name = ? AND name NOT IN (SELECT query FROM marks)', values[1:2]
            )

    def of(self, store: str, query: str) -> dict[str, bool]:
        """Return the marked pictures of a query, and whether they are right."""
        with self._access:
            found = self._database.execute(
                'SELECT picture, is_right FROM marks WHERE store = ? AND query = ?',
                (os.fsencode(store), os.fsencode(query)),
            ).fetchall()
        return {os.fsdecode(picture): bool(is_right) for picture, is_right in found}

    def count(self) -> tuple[int, int]:
        """Return the numbers of right and of wrong pairs."""
        with self._access:
            found = self._database.execute('SELECT coalesce(sum(is_right), 0), count(*) FROM marks').fetchone()
        return found[0], found[1] - found[0]

    def newest(self, number: int = -1) -> list[Mark]:
        """Return the newest marks, all by default."""
        with self._access:
            found = self._database.execute(
                f'SELECT {_COLUMNS} FROM marks ORDER BY time DESC, rowid DESC LIMIT ?', (number,)
            ).fetchall()
        return [
            Mark(*map(os.fsdecode, row[:3]), bool(row[3]), *map(os.fsdecode, row[4:6]), time=row[6]) for row in found
        ]

    def to_csv(self) -> bytes:
        """Return all marks as a table: a pair a line, oldest first, ``same`` 1 or 0.

        Names that are no UTF-8 keep their bytes.
        """
        text = io.StringIO()
        table = csv.writer(text)
        table.writerow(['query', 'picture', 'same', 'query_label', 'picture_label', 'store'])
        for each in reversed(self.newest()):
            row = [each.query, each.picture, int(each.is_right), each.query_label, each.picture_label, each.store]
            table.writerow(row)
        return text.getvalue().encode('utf-8', 'surrogateescape')

    def to_zip(self) -> bytes:
        """Return an archive of the table, ``pairs.csv``, and the uploads that it names."""
        file = io.BytesIO()
        with zipfile.ZipFile(file, 'w') as archive:
            archive.writestr('pairs.csv', self.to_csv())
            for name, jpeg in self._uploads():
                archive.writestr(name, jpeg)
        return file.getvalue()

    def _uploads(self) -> Iterable[tuple[str, bytes]]:
        with self._access:
            found = self._database.execute('SELECT name, jpeg FROM uploads ORDER BY name').fetchall()
        return [(os.fsdecode(name), jpeg) for name, jpeg in found]

    def close(self) -> None:
        """Close the file."""
        with self._access:
            self._database.close()
