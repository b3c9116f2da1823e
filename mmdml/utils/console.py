"""Lines for the console of a run; everything else goes to the log file alone."""

import logging
import threading
import time
from collections.abc import Callable

#: Attribute of log records that the console shows.
ON_CONSOLE = 'on_console'
#: Attribute of log records that go to the log file alone.
FILE_ONLY = 'file_only'

_attended = False


def attend() -> None:
    """Declare that a person waits in front of this process: from now on a long silence is filled."""
    global _attended
    _attended = True


def show(message: str, level: int = logging.INFO) -> None:
    """Log a message to the run's log, marked for the console."""
    from mmengine.logging import MMLogger

    MMLogger.get_current_instance().log(level, message, extra={ON_CONSOLE: True})


def duration(seconds: float) -> str:
    """``3725`` as ``'1 h 02 min'``, ``65`` as ``'1 min 05 s'``, ``7.4`` as ``'7 s'``."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 60:
        return f'{minutes // 60} h {minutes % 60:02d} min'
    return f'{minutes} min {rest:02d} s' if minutes else f'{rest} s'


class SignOfLife:
    """Show a line every few seconds, also while nothing happens that could be shown.

    Args:
        every: seconds between two lines of :meth:`offer`.
        silence: seconds without any line after which :attr:`doing` is shown; a thread watches.
        display: takes a line. Default: :func:`show`.
    """

    def __init__(self, every: float = 10.0, silence: float = 20.0, display: Callable[[str], None] = show) -> None:
        self.every = every
        self.silence = silence
        self.display = display
        #: What the run does at the moment.
        self.doing = ''
        self._last = self._since = time.monotonic()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Watch for silence until :meth:`stop`, if somebody waits (:func:`attend`)."""
        self._last = time.monotonic()
        if not _attended or self._thread is not None:
            return
        self._stop.clear()
        self._thread = threading.Thread(target=self._watch, name='sign of life', daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the watch."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def begin(self, doing: str) -> None:
        """Take note of what the run does from now on."""
        self.doing = doing
        self._since = time.monotonic()

    def offer(self, line: Callable[[], str]) -> None:
        """Show ``line()`` if the last line is long enough ago; otherwise it is not even made."""
        if time.monotonic() - self._last >= self.every:
            self.say(line())

    def say(self, line: str) -> None:
        """Show a line now."""
        self._last = time.monotonic()
        self.display(line)

    def _watch(self) -> None:
        while not self._stop.wait(min(1.0, self.silence / 4)):
            now = time.monotonic()
            if self.doing and now - self._last >= self.silence:
                self.say(f'{self.doing}, for {duration(now - self._since)}')
