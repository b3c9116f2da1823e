"""How far a long evaluation is."""

import logging
import time


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
