"""Processes that end with the one that started them."""

import ctypes
import os
import signal
from collections.abc import Callable
from functools import partial
from typing import Any

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


def ending_with_this_process(worker_init_fn: Callable[[int], Any] | None = None) -> Callable[[int], Any]:
    """Return a ``worker_init_fn`` for a ``DataLoader`` whose workers end when this process ends.

    Args:
        worker_init_fn: what the workers shall call besides.
    """
    return partial(_start_worker, os.getpid(), worker_init_fn)


def _start_worker(parent: int, worker_init_fn: Callable[[int], Any] | None, worker_id: int) -> None:
    end_with_parent(parent)
    if worker_init_fn is not None:
        worker_init_fn(worker_id)
