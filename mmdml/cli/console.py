"""The console of a command: what is meant for the reader; everything else goes to the run's log file."""

import logging
import sys
import warnings
from collections.abc import Callable
from functools import wraps
from typing import Any

from mmengine.logging import MMLogger
from torch.utils.data import DataLoader

from mmdml.cli.config_paths import settings_of
from mmdml.engine.runner import MetricLearningRunner
from mmdml.utils.console import FILE_ONLY, ON_CONSOLE, attend

# Packages below mmdml, whose warnings say nothing about a run to the one who started it.
_FOREIGN = frozenset(
    'mmengine mmcv mmpretrain torch torchvision timm faiss numpy scipy sklearn PIL cv2 py distutils importlib'.split()
)

# Modules that pass records on.
_LOGGING = (__name__, 'mmengine.logging.logger', 'mmdml.compat.debug_prints', 'mmdml.utils.console')


class ConsoleHandler(logging.StreamHandler):
    """Shows lines that are marked for the console, warnings of mmdml and of the user's own code, and errors."""

    def __init__(self) -> None:
        super().__init__(sys.stdout)
        self.addFilter(_is_for_the_console)

    def format(self, record: logging.LogRecord) -> str:
        """Return the bare message; a warning or an error is called so."""
        message = record.getMessage()
        return message if record.levelno <= logging.INFO else f'{record.levelname.lower()}: {message}'


def _is_for_the_console(record: logging.LogRecord) -> bool:
    if getattr(record, FILE_ONLY, False):
        return False
    if getattr(record, ON_CONSOLE, False) or record.levelno >= logging.ERROR:
        return True
    if record.levelno >= logging.WARNING:
        return _origin(record) not in _FOREIGN
    return record.levelno == logging.INFO and record.name.partition('.')[0] == 'mmdml'


def _origin(record: logging.LogRecord) -> str:
    """Name of the package that a record comes from."""
    package = getattr(record, 'package', None)
    if package is not None:
        return package
    if record.name not in ('mmengine', 'root'):
        return record.name.partition('.')[0]
    # MMEngine's loggers are all called mmengine, and its print_log is the caller of them all.
    frame = sys._getframe()
    while frame is not None:
        module = frame.f_globals.get('__name__', '')
        package = module.partition('.')[0]
        if package != 'logging' and module not in _LOGGING:
            return package
        frame = frame.f_back
    return 'mmengine'


class _ToRunLog(logging.Handler):
    """Hands records to the log of the run, and keeps those that come before there is one."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: list[logging.LogRecord] = []
        self.logger: MMLogger | None = None

    def emit(self, record: logging.LogRecord) -> None:
        if self.logger is None:
            record.package = _origin(record)
            self.waiting.append(record)
        elif not (record.name.startswith('mmdml') and logging.getLogger('mmdml').handlers):
            # The logger of mmdml has its own way to the run's log while a run goes on.
            self.logger.handle(record)

    def open(self, logger: MMLogger) -> None:
        """Write what has been waiting, and from now on write at once."""
        self.logger = logger
        for record in self.waiting:
            logger.handle(record)
        self.waiting.clear()


_TO_RUN_LOG = _ToRunLog()


def take_console() -> None:
    """Keep the console of this process for the lines of a run: before anything else writes to it.

    Warnings of Python and records of all loggers wait for the run's log file.
    """
    attend()
    warnings.showwarning = _show_warning
    logging.getLogger().addHandler(_TO_RUN_LOG)
    # MMEngine logs to this one until the Runner has its own.
    early = MMLogger.get_instance('mmengine')
    early.handlers[:] = [_TO_RUN_LOG]


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: Any = None,
    line: str | None = None,
) -> None:
    text = f'{filename}:{lineno}: {category.__name__}: {message}'
    record = logging.LogRecord('py.warnings', logging.WARNING, filename, lineno, text, None, None)
    record.package = _package_of(filename)
    _TO_RUN_LOG.handle(record)


def _package_of(filename: str) -> str:
    """Name of the package that a file belongs to, '' for a file outside the installed packages."""
    for folder in ('site-packages/', 'dist-packages/', f'/python3.{sys.version_info.minor}/'):
        _, found, inside = filename.rpartition(folder)
        if found:
            return inside.partition('/')[0].removesuffix('.py')
    return ''


def _naming_settings(build: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """Let errors of a method of the Runner that builds a part carry the settings of that part."""

    @wraps(build)
    def build_or_name(self: Any, settings: Any) -> Any:
        with settings_of(settings):
            return build(self, settings)

    return build_or_name


class ToolRunner(MetricLearningRunner):
    """The runner with the console of :func:`take_console`."""

    #: The runner of this process, for what has to be said when it is interrupted.
    current: 'ToolRunner | None' = None

    @classmethod
    def from_cfg(cls, cfg: Any) -> 'ToolRunner':
        """Build the runner; what fails here, failed for a setting."""
        with settings_of(None):
            return super().from_cfg(cfg)

    @staticmethod
    def build_dataloader(dataloader: Any, *args: Any, **kwargs: Any) -> DataLoader:
        """Build a loader; what fails here, failed for a setting."""
        with settings_of(dataloader):
            return MetricLearningRunner.build_dataloader(dataloader, *args, **kwargs)

    build_train_loop = _naming_settings(MetricLearningRunner.build_train_loop)
    build_val_loop = _naming_settings(MetricLearningRunner.build_val_loop)
    build_test_loop = _naming_settings(MetricLearningRunner.build_test_loop)
    build_optim_wrapper = _naming_settings(MetricLearningRunner.build_optim_wrapper)

    def build_logger(self, *args: Any, **kwargs: Any) -> MMLogger:
        """Return the logger of the run: the file gets everything, the console its lines."""
        logger = super().build_logger(*args, **kwargs)
        for number, handler in enumerate(logger.handlers):
            if type(handler) is logging.StreamHandler:
                console = ConsoleHandler()
                console.setLevel(handler.level)
                console.filters += handler.filters
                logger.handlers[number] = console
        _TO_RUN_LOG.open(logger)
        ToolRunner.current = self
        return logger
