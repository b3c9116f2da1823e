"""How far a long job is: a line on the terminal, or in the log."""

import logging
import sys
import time
from typing import TextIO


def bytes_as_text(number: float) -> str:
    """``1234567`` as ``'1.2 MB'``."""
    for unit in ('B', 'kB', 'MB'):
        if number < 1000:
            return f'{number:.0f} {unit}' if unit == 'B' else f'{number:.1f} {unit}'
        number /= 1000
    return f'{number:.2f} GB'


def _count_as_text(number: float) -> str:
    return f'{number:,.0f}'


class ProgressLine:
    """A line on stderr: what is done of how much, the rate, and the time left.

    A terminal shows one line that is rewritten; a log file gets a new line every half minute. A job that ends sooner
    leaves nothing in the log.

    Args:
        what: is done, the beginning of the line.
        total: amount to do; None if unknown.
        done: amount that was done before.
        in_bytes: the amounts are bytes.
        stream: where to write. Default: ``sys.stderr``.

    Example:
        >>> with ProgressLine('images', total=3) as progress:
        ...     for _ in range(3):
        ...         progress.add(1)
    """

    WIDTH = 24

    def __init__(
        self, what: str, total: int | None, done: int = 0, in_bytes: bool = False, stream: TextIO | None = None
    ) -> None:
        self.what = what
        self.total = total
        self.done = self._before = done
        self._text = bytes_as_text if in_bytes else _count_as_text
        self._stream = sys.stderr if stream is None else stream
        self._on_terminal = self._stream.isatty()
        self._start = self._shown = time.monotonic()

    def __enter__(self) -> 'ProgressLine':
        return self

    def __exit__(self, *error) -> None:
        if self._on_terminal:
            self._show(time.monotonic())
            print(file=self._stream, flush=True)

    def add(self, amount: int) -> None:
        """Take note that ``amount`` more is done."""
        self.set(self.done + amount)

    def set(self, done: int) -> None:
        """Take note that ``done`` is done altogether."""
        self.done = done
        now = time.monotonic()
        if now - self._shown >= (0.2 if self._on_terminal else 30.0):
            self._show(now)

    def _show(self, now: float) -> None:
        self._shown = now
        if self._on_terminal:
            print(f'\r{self.line(now - self._start)}\033[K', end='', file=self._stream, flush=True)
        else:
            print(self.line(now - self._start), file=self._stream, flush=True)

    def line(self, seconds: float) -> str:
        """Return the text after ``seconds``."""
        rate = (self.done - self._before) / max(seconds, 1e-9)
        if not self.total:
            return f'{self.what} {self._text(self.done)}, {self._text(rate)}/s'
        share = min(1.0, self.done / self.total)
        bar = '#' * int(share * self.WIDTH)
        left = f', {(self.total - self.done) / rate:.0f} s left' if rate > 0 else ''
        return (
            f'{self.what} [{bar:<{self.WIDTH}}] {share:4.0%}  {self._text(self.done)} of {self._text(self.total)}, '
            f'{self._text(rate)}/s{left}'
        )


class LogProgress:
    """Logs how much is done and how long the rest will take, every few seconds.

    Args:
        every: seconds between two lines; jobs shorter than that log nothing.
        what: is counted.
        logger: name of the logger.

    Example:
        >>> retrieval_scores(embeddings, labels, progress=LogProgress())
    """

    def __init__(self, every: float = 10.0, what: str = 'queries', logger: str = 'mmdml') -> None:
        self.every = every
        self.what = what
        self.logger = logging.getLogger(logger)
        self._start = self._last = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        """Take note that ``done`` of ``total`` are done."""
        now = time.monotonic()
        if now - self._last < self.every:
            return
        self._last = now
        left = (now - self._start) / done * (total - done)
        self.logger.info('%d of %d %s, %.0f s left', done, total, self.what, left)
