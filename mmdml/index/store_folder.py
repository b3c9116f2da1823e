"""The files in the folder of a local store, and who may write to them."""

import fcntl
import os
import uuid
from pathlib import Path
from typing import Any

from mmdml.index.database import create_database
from mmdml.index.vector_file import VectorFile
from mmdml.utils.names import printable

#: Name of the database, whose presence makes a folder a store.
CATALOG = 'store.db'
LOCK = 'lock'


def take_lock(store: Path, file: Path) -> int:
    """Take the lock of the one who writes to a store, which the kernel releases when this process ends.

    Args:
        store: for messages.
        file: that is locked, made if need be.

    Returns:
        The descriptor of the lock file; closing it releases the lock.

    Raises:
        RuntimeError: another process has it.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        holder = os.pread(descriptor, 100, 0).decode(errors='replace')
        os.close(descriptor)
        raise RuntimeError(
            f'{printable(store.absolute())} is being written to ({holder}); wait until it is done, or open it to read'
        ) from None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f'process {os.getpid()}'.encode(), 0)
    return descriptor


def vectors_path(folder: Path, generation: int) -> Path:
    """Return the path of the vectors after so many compactions."""
    return folder / (f'vectors-{generation}.f32' if generation else 'vectors.f32')


def remove_other_vectors(folder: Path, kept: Path) -> None:
    """Remove vectors from before or during a compaction; readers that map a file keep it until they go on."""
    for path in folder.glob('vectors*.f32'):
        if path != kept:
            path.unlink()


def create_store(folder: Path, dimensions: int | None, model_hash: str | None, model: str) -> None:
    """Make an empty store; the catalog, which makes it one, comes last."""
    vectors = vectors_path(folder, 0)
    others = [each.name for each in folder.iterdir() if each.name not in (LOCK, vectors.name) and each.name[0] != '.']
    if others or VectorFile.holds_rows(vectors):
        raise ValueError(
            f'{printable(folder.absolute())} holds other files and no {CATALOG}, e.g. '
            f'{printable(others[0] if others else vectors.name)}; choose another folder for the store'
        )
    if not dimensions or not model_hash:
        raise ValueError('a new store needs dimensions and model_hash')
    identity = uuid.uuid4().bytes
    VectorFile.create(vectors, dimensions, identity)
    facts = dict(dimensions=dimensions, model_hash=model_hash, model=model, identity=identity)
    create_database(folder / CATALOG, dict(**facts, store=identity.hex(), generation=0, next_id=0))


def check_facts(where: Path | str, facts: dict[str, Any], dimensions: int | None, model_hash: str | None) -> None:
    """Check that a store is for this model.

    Raises:
        ValueError: otherwise.
    """
    if model_hash is not None and facts['model_hash'] != model_hash:
        raise ValueError(
            f'{printable(where)} holds vectors of another model or pre-processing '
            f'({facts["model_hash"][:12]}, not {model_hash[:12]}); use that model, or make a store anew'
        )
    if dimensions is not None and facts['dimensions'] != dimensions:
        raise ValueError(f'{printable(where)} holds {facts["dimensions"]} dimensions, not {dimensions}')
