"""Ctrl-C and SIGTERM that wait for the end of what must not be cut."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def interrupts_wait() -> Iterator[None]:
    """Let the first SIGINT or SIGTERM that comes inside act at the end; the next one acts at once.

    Where code inside catches what that one raises, the first still acts at the end.

    Signals that Python leaves to the system, and threads other than the main one, are left alone. Use::

        with interrupts_wait():
            runner.save_checkpoint(folder, name)
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    before = {number: handler for number, handler in before.items() if callable(handler)}
    waiting: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if waiting:
            before[number](number, frame)
        else:
            waiting.append(number)

    for number in before:
        signal.signal(number, note)
    try:
        yield
    except BaseException as error:
        if not isinstance(error, Exception):
            waiting.clear()  # the run ends already
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if waiting:
            signal.raise_signal(waiting[0])
