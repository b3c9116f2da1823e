"""Options that several commands share."""

import logging
import math
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import click
from click.core import ParameterSource

from mmdml.compat import after_import

#: The model to embed with, by any of its names.
model_option = click.option(
    '--model',
    default='default',
    show_default='the embedder that comes with mmdml',
    help='A model folder, timm/NAME, CONFIG.py:CHECKPOINT, FILE.onnx, or a name that mmdml list shows.',
)

#: The same for commands on a store, which names the model that it was made with.
store_model_option = click.option(
    '--model',
    help='As mmdml embed takes it. Default: the model that the store was made with; where there is no store yet, the '
    'embedder that comes with mmdml.',
)

debug_option = click.option('--debug', is_flag=True, help='Show the traceback of an error.')


class FiniteRange(click.FloatRange):
    """Numbers of a range; infinity is none, nor is 'nan', which no bound keeps out."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number, or fail."""
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f'{value} is no finite number', param, ctx)
        return number


def refuse_given(names: Sequence[str], reason: str) -> None:
    """Refuse options that would be left without effect.

    Args:
        names: of parameters of the command that runs.
        reason: why, to follow the first of them that was given.

    Raises:
        click.UsageError: one was given.
    """
    context = click.get_current_context()
    for parameter in context.command.params:
        if parameter.name in names and context.get_parameter_source(parameter.name) is ParameterSource.COMMANDLINE:
            raise click.UsageError(f'{parameter.opts[0]} {reason}.')


def quiet_loading() -> None:
    """Keep off the console what is logged while a model is loaded; an exported one is loaded without MMEngine.

    Warnings are shown on stderr, in a line each: stdout is the outcome's, which a program may read.
    """
    after_import('mmengine.logging.logger', _warnings_only)


def _warnings_only(logger: ModuleType) -> None:
    if not logger.MMLogger.check_instance_created('mmdml'):
        for handler in logger.MMLogger.get_instance('mmdml', log_level='WARNING').handlers:
            handler.setStream(sys.stderr)
            handler.setFormatter(_Line())


class _Line(logging.Formatter):
    """A record as ``warning: message``."""

    def format(self, record: logging.LogRecord) -> str:
        return f'{record.levelname.lower()}: {record.getMessage()}'
