"""One training at a time in a work dir."""

import fcntl
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmengine.logging import print_log

from mmdml.dist import is_main_process, on_main_process

_NAME = '.lock'
# The lock is one of processes: a second one of the same process would pass, and release the first.
_held: dict[Path, int] = {}


@contextmanager
def run_lock(work_dir: str) -> Iterator[None]:
    """Hold the work dir of a run, on rank 0 for all ranks, until the block or the process ends.

    The kernel releases the lock when its holder is killed. Loader workers do not inherit it.

    Raises:
        RuntimeError: if another run holds it, naming its process.
    """
    folder = Path(work_dir).resolve()
    on_main_process(lambda: _acquire(folder))
    try:
        yield
    finally:
        if is_main_process() and folder in _held:
            os.close(_held.pop(folder))


def _acquire(folder: Path) -> None:
    if folder in _held:
        raise RuntimeError(f'{folder} is in use by another run of this process; choose another work_dir')
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / _NAME, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        holder = os.read(descriptor, 200).decode(errors='replace').strip()
        os.close(descriptor)
        raise RuntimeError(
            f'{folder} is in use by another run ({holder}): wait for it, stop it, or choose another --work-dir'
        ) from None
    except OSError as error:  # some network file systems have no locks
        print_log(f'{folder} cannot be locked ({error}): start no second run there', 'current', logging.WARNING)
    os.ftruncate(descriptor, 0)
    os.write(descriptor, f'process {os.getpid()} on {socket.gethostname()}'.encode())
    _held[folder] = descriptor
