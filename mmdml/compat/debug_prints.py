"""Keeps the debugging output of packages below mmdml off stdout."""

import logging
import sys
from functools import wraps
from types import ModuleType
from typing import Any


def drop_debug_prints(logger: ModuleType) -> None:
    """Let ``print_log`` print nothing below INFO where it is given no logger.

    It prints whatever the level then; mmpretrain's note about an optional package comes out at every import.

    Args:
        logger: The module ``mmengine.logging.logger``, right after its import.
    """
    original = logger.print_log

    @wraps(original)
    def print_log(msg: Any, logger: Any = None, level: int = logging.INFO) -> None:
        if logger is not None or level >= logging.INFO:
            original(msg, logger, level)

    logger.print_log = print_log
    package = sys.modules.get('mmengine.logging')
    if hasattr(package, 'print_log'):  # imported before mmdml
        package.print_log = print_log
