"""Processes that end with the one that started them."""

import ctypes
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

#: Seconds after which a loader whose worker gives nothing is given up.
LOADER_TIMEOUT = 600

_PR_SET_PDEATHSIG = 1


def end_with_parent(parent: int) -> None:
    """Let the kernel end this process when the process that started it ends, however that happens.

    A loader worker whose run was killed would otherwise wait for it for ever, with its copy of the data, and a rank
    whose launcher was killed would train on. Linux only; elsewhere nothing happens.

    Args:
        parent: process number of the one that started this process. If it has ended already, so does this one.
    """
    try:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    except (OSError, AttributeError):  # not Linux
        return
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def worker_options(num_workers: int, worker_init_fn: Callable[[int], Any] | None = None) -> dict[str, Any]:
    """Arguments of a ``DataLoader`` whose workers neither outlive this process nor hang it.

    Args:
        num_workers: of the loader; without workers there is nothing to set.
        worker_init_fn: what the workers shall call besides.
    """
    if not num_workers:
        return {}
    return dict(timeout=LOADER_TIMEOUT, worker_init_fn=partial(_start_worker, os.getpid(), worker_init_fn))


@contextmanager
def explain_stalled_workers() -> Iterator[None]:
    """Turn the time-out of a loader into an error that says what to look for.

    Raises:
        RuntimeError: in place of torch's "DataLoader timed out".
    """
    try:
        yield
    except RuntimeError as error:
        if 'DataLoader timed out' not in str(error):
            raise
        raise RuntimeError(
            f'a loader worker gave no batch in time ({error}): it was stopped, or reads from a disk or network that '
            'does not answer. Free the storage, or raise the limit, e.g. train_dataloader.timeout=3600 (seconds)'
        ) from error


def _start_worker(parent: int, worker_init_fn: Callable[[int], Any] | None, worker_id: int) -> None:
    end_with_parent(parent)
    if worker_init_fn is not None:
        worker_init_fn(worker_id)
