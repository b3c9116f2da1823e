"""How a command ends: an expected error or an interruption in a line, any other error with its traceback."""

import dis
import os
import select
import shlex
import signal
import sys
import time
import traceback
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, NoReturn

from mmdml.compat.memory import keep_freed_memory
from mmdml.utils.console import FILE_ONLY

# Exit status after SIGINT, SIGTERM and SIGPIPE, as shells have it.
_INTERRUPTED, _TERMINATED, _UNREAD = 130, 143, 141
# Seconds in which the launcher stops the other ranks once rank 0 has ended with the same error.
_OTHER_RANKS = 2.0
_SIGNALS = 0.5
# What code below mmdml raises for wrong settings while the parts of a run are built from its config.
_WRONG_SETTINGS = (
    *(ValueError, TypeError, LookupError, AttributeError, AssertionError, ImportError, RuntimeError, ArithmeticError),
)


class _Terminated(KeyboardInterrupt):
    """SIGTERM."""


def run_command(command: Callable[[], None]) -> NoReturn:
    """Run a command and exit: 0, 1 after an error, 130 or 143 after Ctrl-C or SIGTERM, 141 once nobody reads on.

    An expected error is shown in its own words, without traceback, unless ``--debug`` is on the command line. Expected
    are errors that code of mmdml raises on purpose, missing files, and wrong settings while a run is built from its
    config.
    """
    signal.signal(signal.SIGTERM, _terminate)
    keep_freed_memory()
    try:
        command()
    except KeyboardInterrupt as stop:
        _stop(stop)
    except Exception as error:
        stop = _interruption_behind(error)
        if stop is not None:
            _stop(stop)
        try:
            if _is_distributed():
                # What came while this rank waited for others, and why they left, is delivered now.
                time.sleep(_SIGNALS)
        except KeyboardInterrupt as stop:
            _stop(stop)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        if isinstance(error, BrokenPipeError) and _output_is_closed():
            _leave(_UNREAD)
        _report(error)
        _leave(1)
    sys.exit(0)


def _output_is_closed() -> bool:
    """Whether the reader of the output has left, as ``head`` does; what is still buffered then goes nowhere."""
    output, left = sys.stdout.fileno(), select.poll()
    left.register(output, 0)
    if not any(state & select.POLLERR for _, state in left.poll(0)):
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), output)
    return True


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    raise _Terminated


def _interruption_behind(error: BaseException | None) -> KeyboardInterrupt | None:
    """Return the interruption that an error followed: code with a bare ``except`` turns one into something else."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error


def _stop(stop: KeyboardInterrupt) -> NoReturn:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if _rank() == 0:
        print(f'\n{describe_interruption()}', file=sys.stderr, flush=True)
    else:
        # Rank 0 would end with a lost connection instead of this line.
        time.sleep(_OTHER_RANKS)
    _leave(_TERMINATED if isinstance(stop, _Terminated) else _INTERRUPTED)


def _report(error: Exception) -> None:
    rank = _rank()
    if rank:
        # Mostly the ranks fail alike, and the launcher stops this one while it waits.
        time.sleep(_OTHER_RANKS)
    runner = _runner()
    if runner is not None:
        runner.logger.error('the run ends with an error', exc_info=error, extra={FILE_ONLY: True})
    if is_expected(error) and '--debug' not in sys.argv:
        prefix = f'error (rank {rank})' if rank else 'error'
        print(f'{prefix}: {describe(error)}', file=sys.stderr, flush=True)
    else:
        traceback.print_exception(error)


def is_expected(error: BaseException) -> bool:
    """Whether an error says what is wrong with the user's input; see :func:`run_command`."""
    if isinstance(
        error, FileNotFoundError | FileExistsError | NotADirectoryError | IsADirectoryError | PermissionError
    ):
        return True
    if type(error).__module__.partition('.')[0] == 'mmdml':
        return True
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    # A tool, when it runs, is called __main__.
    if last is not None and last.tb_frame.f_globals.get('__name__', '').partition('.')[0] in ('mmdml', '__main__'):
        return _raises(last)
    return hasattr(error, 'failed_config') and isinstance(error, _WRONG_SETTINGS)


def _raises(last: TracebackType) -> bool:
    """Whether the code stopped at a ``raise``, not at an operation that failed."""
    return dis.opname[last.tb_frame.f_code.co_code[last.tb_lasti]] in ('RAISE_VARARGS', 'RERAISE')


def describe(error: BaseException) -> str:
    """Return an error in its own words, with the path of the config entry whose part raised it."""
    message = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    if isinstance(error, FileNotFoundError) and error.filename is not None:
        message = f'there is no file or folder {error.filename}'
    if isinstance(error, FileExistsError) and error.filename is not None:
        kind = 'a folder' if os.path.isdir(error.filename) else 'a file'
        message = f'{error.filename} is there already, {kind}; name another place'
    # torch puts the traceback of a loader worker into the message.
    head, found, inner = message.partition('Original Traceback (most recent call last):')
    if found:
        lines = inner.strip().splitlines()
        start = max((number for number, line in enumerate(lines) if line and not line.startswith(' ')), default=0)
        message = '\n'.join(lines[start:]).partition(': ')[2] or message
    configs = sys.modules.get('mmdml.cli.config_paths')
    path = configs.path_of_failed_config(error) if configs else ''
    return f'{path}: {message or type(error).__name__}' if path else message or type(error).__name__


def describe_interruption() -> str:
    """One line: where the run stood and how to go on."""
    runner = _runner()
    loop = getattr(runner, '_train_loop', None)
    if runner is None or loop is None or not hasattr(loop, 'iter'):
        return 'interrupted'
    where = f'interrupted after update {runner.iter:,} of {runner.max_iters:,}'
    from mmdml.engine.checkpoints import checkpoint_folder_of

    if not checkpoint_folder_of(runner).numbered():
        return f'{where}; no checkpoint was written yet'
    return f'{where}; go on with: {command_line("--resume")}'


def command_line(flag: str) -> str:
    """Return the command of this process with one more flag."""
    command = os.environ.get('MMDML_COMMAND') or shlex.join(_program() + sys.argv[1:])
    return command if f' {flag}' in command else f'{command} {flag}'


def _program() -> list[str]:
    """Return how this process was started, without its arguments."""
    return ['mmdml'] if os.path.basename(sys.argv[0]) == 'mmdml' else ['python', sys.argv[0]]


def _runner() -> Any:
    """Return the runner of this process, if it has one; a command that needs no torch has not imported the module."""
    console = sys.modules.get('mmdml.cli.console')
    return console.ToolRunner.current if console else None


def _rank() -> int:
    return int(os.environ.get('RANK', os.environ.get('SLURM_PROCID', 0)))


def _is_distributed() -> bool:
    return int(os.environ.get('WORLD_SIZE', 1)) > 1


def _leave(status: int) -> NoReturn:
    sys.stdout.flush()
    sys.stderr.flush()
    if _is_distributed():
        # Other ranks may be inside a collective, and the threads of the process group would wait for them.
        os._exit(status)
    sys.exit(status)
