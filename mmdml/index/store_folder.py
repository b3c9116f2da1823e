"""The files in the folder of a local store, and who may write to them."""

import fcntl
import os
import uuid
from pathlib import Path

from mmdml.index.database import create_database
from mmdml.index.vector_file import VectorFile
from mmdml.index.vector_store import Wanted
from mmdml.utils.names import printable

#: Name of the database, whose presence makes a folder a store.
CATALOG = 'store.db'
LOCK = 'lock'


def no_store(address: str | Path) -> FileNotFoundError:
    """Return the error of an address without a store; it says how to make one."""
    shown = printable(address)
    folder, store = 'FOLDER', shown
    if os.path.isdir(address) and os.listdir(address):
        # Most likely the pictures.
        folder, store = shown, f'{shown.rstrip(os.sep)}.store'
    return FileNotFoundError(f'there is no store in {shown}; make one: mmdml index {folder} --store {store}')


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


def claim_folder(folder: Path) -> int:
    """Take the lock of a store's folder, made if need be.

    Returns:
        The descriptor of the lock file, see :func:`take_lock`.

    Raises:
        RuntimeError: another process has it.
        ValueError: the folder is not a store's and holds other files.
    """
    if not (folder / CATALOG).exists() and not (folder / LOCK).exists():
        # Before the lock file is made: a folder of pictures that was named by mistake is left as it was.
        refuse_other_files(folder)
    return take_lock(folder, folder / LOCK)


def vectors_path(folder: Path, generation: int) -> Path:
    """Return the path of the vectors after so many compactions."""
    return folder / (f'vectors-{generation}.f32' if generation else 'vectors.f32')


def remove_other_vectors(folder: Path, kept: Path) -> None:
    """Remove vectors from before or during a compaction; readers that map a file keep it until they go on."""
    for path in folder.glob('vectors*.f32'):
        if path != kept:
            path.unlink()


def refuse_other_files(folder: Path) -> None:
    """Check that a folder without a catalog, if it is there, has nothing in it but the rest of a store.

    Raises:
        ValueError: it holds other files, such as pictures.
    """
    vectors = vectors_path(folder, 0)
    names = [each.name for each in folder.iterdir()] if folder.is_dir() else []
    others = sorted(name for name in names if name not in (LOCK, vectors.name) and name[0] != '.')
    if others or VectorFile.holds_rows(vectors):
        raise ValueError(
            f'{printable(folder.absolute())} holds other files and no {CATALOG}, e.g. '
            f'{printable(others[0] if others else vectors.name)}; choose another folder for the store'
        )


def create_store(folder: Path, wanted: Wanted) -> None:
    """Make an empty store; the catalog, which makes it one, comes last."""
    refuse_other_files(folder)
    facts, identity = wanted.for_new_store(), uuid.uuid4().bytes
    VectorFile.create(vectors_path(folder, 0), facts['dimensions'], identity)
    create_database(folder / CATALOG, dict(**facts, identity=identity, store=identity.hex(), generation=0, next_id=0))
