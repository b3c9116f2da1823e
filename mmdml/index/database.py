"""The SQLite file of a local store: its tables, how it is made and opened."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

from mmdml.utils.files import replaced_when_whole
from mmdml.utils.names import printable

#: Of the tables.
VERSION = 2
# The place of a row is that of its vector in the file. Deleted rows have state 1 until the store is compacted.
_SCHEMA = """
CREATE TABLE facts (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE rows (
    id INTEGER PRIMARY KEY,
    place INTEGER NOT NULL UNIQUE,
    path BLOB NOT NULL,
    label BLOB NOT NULL,
    size INTEGER NOT NULL,
    content_hash TEXT NOT NULL,
    checksum INTEGER NOT NULL,
    state INTEGER NOT NULL DEFAULT 0
);
CREATE UNIQUE INDEX live_paths ON rows (path) WHERE state = 0;
CREATE INDEX live_labels ON rows (label) WHERE state = 0;
CREATE INDEX live_rows ON rows (id, place) WHERE state = 0;
CREATE TABLE names (name TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE metadata (row INTEGER, name TEXT, value BLOB, PRIMARY KEY (row, name)) WITHOUT ROWID;
CREATE INDEX metadata_values ON metadata (name, value);
"""


def create_database(path: Path, facts: dict[str, Any]) -> None:
    """Make the database of a store without rows, whole or not at all.

    Raises:
        OSError: the disk is full, for instance.
    """
    with replaced_when_whole(path) as beside:
        try:
            with closing(sqlite3.connect(beside, isolation_level=None)) as database:
                database.execute('PRAGMA journal_mode = WAL')
                database.executescript(_SCHEMA)
                database.executemany('INSERT INTO facts VALUES (?, ?)', [*facts.items(), ('version', VERSION)])
        except sqlite3.Error as error:
            for own in ('-wal', '-shm'):
                beside.with_name(beside.name + own).unlink(missing_ok=True)
            raise OSError(f'{printable(path)} cannot be made: {error}; is the disk full?') from error


#: What differs once a file has been written to: inode, size and time, and whether a writer has it open.
FileState = tuple[int, int, int, bool]


def file_state(path: Path) -> FileState:
    """Return the state of a database."""
    found = path.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns, path.with_name(path.name + '-wal').exists()


def connect(path: Path, write: bool) -> tuple[sqlite3.Connection, FileState | None]:
    """Open the database, also in a folder that cannot be written to.

    Returns:
        The connection, and None. In such a folder, unless a writer has the database open, SQLite has to take it for a
        file that never changes; then the state that it was opened in, after which the connection must not be used.

    Raises:
        ValueError: the file is no database.
    """
    before = None if write else file_state(path)
    # A name may hold any byte, also those that mean something in an address.
    address = f'file:{quote(os.fsencode(path.absolute()))}?mode={"rw" if write else "ro"}'
    options = dict(uri=True, timeout=30, isolation_level=None, check_same_thread=False)
    try:
        return _opened(address, options), None
    except sqlite3.OperationalError:
        # In a folder that cannot be written to, SQLite's own files beside the database cannot be made.
        if write:
            raise
    except sqlite3.DatabaseError as error:
        raise ValueError(f'{printable(path)} is no catalog of a store: {error}') from None
    try:
        return _opened(f'{address}&immutable=1', options), before
    except sqlite3.DatabaseError as error:
        raise ValueError(f'{printable(path)} is no catalog of a store: {error}') from None


def _opened(address: str, options: dict[str, Any]) -> sqlite3.Connection:
    """Open a database and read of it."""
    database = sqlite3.connect(address, **options)
    try:
        database.execute('SELECT count(*) FROM sqlite_master').fetchone()
    except sqlite3.Error:
        database.close()
        raise
    return database
