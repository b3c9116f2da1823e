"""Processes that end with the one that started them."""

import ctypes
import multiprocessing
import os
import signal
import threading
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
def stalled_workers_end(limit: float = LOADER_TIMEOUT, loader: str = 'train_dataloader') -> Iterator[None]:
    """End the block with a reason if a loader worker stands still, instead of waiting for it for ever.

    A ``timeout`` of the loader is not enough: a process that fetches a tensor from a stopped worker waits without one.
    So child processes that are stopped (``SIGSTOP``) for ``limit`` seconds are killed, on which torch ends the loader.

    Args:
        limit: seconds.
        loader: its name in the config, for the message.

    Raises:
        RuntimeError: in place of what torch raises for a worker that was killed so, and for "DataLoader timed out".
    """
    killed, done = [], threading.Event()
    watch = threading.Thread(target=_kill_stopped_children, args=(limit, killed, done), daemon=True)
    watch.start()
    try:
        yield
    except (RuntimeError, OSError, EOFError) as error:
        if not killed and 'DataLoader timed out' not in str(error):
            raise
        raise RuntimeError(
            f'a loader worker gave no batch for {limit:g} s: it was stopped, or reads from a disk or network that does '
            f'not answer. Free the storage, or raise the limit: {loader}.timeout=3600 (seconds)'
        ) from error
    finally:
        done.set()
        watch.join()


def _kill_stopped_children(limit: float, killed: list[int], done: threading.Event) -> None:
    stopped: dict[int, float] = {}
    step = min(limit / 5, 5)
    while not done.wait(step):
        children = [child for child in multiprocessing.active_children() if _is_stopped(child)]
        # Counted in steps of this thread: while the whole run is suspended no time passes.
        stopped = {child.pid: stopped.get(child.pid, 0) + step for child in children}
        for child in children:
            if stopped[child.pid] >= limit:
                killed.append(child.pid)
                child.kill()


def _is_stopped(process: multiprocessing.Process) -> bool:
    try:
        with open(f'/proc/{process.pid}/stat') as file:
            return file.read().rpartition(')')[2].split()[0] == 'T'
    except OSError:  # ended by now, or not Linux
        return False


def _start_worker(parent: int, worker_init_fn: Callable[[int], Any] | None, worker_id: int) -> None:
    end_with_parent(parent)
    if worker_init_fn is not None:
        worker_init_fn(worker_id)
