"""One log for a run: records of the parts without MMEngine go to its log file and console."""

import logging

from mmengine.logging import MMLogger


class _RunLog(logging.Handler):
    """Pass records to the logger of the current run."""

    def emit(self, record: logging.LogRecord) -> None:
        # MMEngine shows a warning once, and recognizes it by its text before the numbers are put in.
        record = logging.makeLogRecord({**record.__dict__, 'msg': record.getMessage(), 'args': None})
        MMLogger.get_current_instance().handle(record)


_RUN_LOG = _RunLog()


def join_run_log() -> None:
    """Let the logger 'mmdml' write to the log of the run, from INFO on unless its level was set before."""
    logger = logging.getLogger('mmdml')
    logger.addHandler(_RUN_LOG)  # once, however often it is called
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.INFO)


def leave_run_log() -> None:
    """Undo :func:`join_run_log`: records after a run go elsewhere."""
    logging.getLogger('mmdml').removeHandler(_RUN_LOG)
