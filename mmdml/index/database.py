"""The SQLite file of a local store: its tables, how it is made and opened."""

import os
import sqlite3
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
    """Make the database of a store without rows, whole or not at all."""
    with replaced_when_whole(path) as beside:
        database = sqlite3.connect(beside, isolation_level=None)
        try:
            database.execute('PRAGMA journal_mode = WAL')
            database.executescript(_SCHEMA)
            database.executemany('INSERT INTO facts VALUES (?, ?)', [*facts.items(), ('version', VERSION)])
        finally:
            database.close()


def connect(path: Path, write: bool) -> sqlite3.Connection:
    """Open the database, also in a folder that cannot be written to.

    Raises:
        ValueError: the file is no database.
    """
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
