"""A training process without a start of its own: a copy of this one, which has imported everything.

Starting Python and importing torch and MMEngine takes longer than a run on saved features.
"""

import gc
import os
import runpy
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import IO


def import_everything() -> None:
    """Import what a training run imports; nothing is computed, because a fork would lose the threads of torch."""
    import matplotlib.backends.backend_agg
    import matplotlib.figure  # noqa: F401
    import mmpretrain.structures  # noqa: F401
    from mmengine.runner import runner

    import mmdml.datasets
    import mmdml.engine.hooks
    import mmdml.evaluation.metrics
    import mmdml.models  # noqa: F401
    from mmdml.cli import console, launch  # noqa: F401

    # The facts about the machine that every run logs: MMEngine asks compilers for some.
    facts = runner.collect_env()
    runner.collect_env = lambda: facts
    gc.collect()
    gc.freeze()  # a collection in a child would copy every page of what is imported


class ForkedProcess:
    """What ``subprocess.Popen`` offers a job, of a fork that runs a script.

    Args:
        script: Python file to run as ``__main__``.
        arguments: of the script.
        output: file that gets stdout and stderr.
        threads: of torch.
        keep: descriptors that the child keeps open beside the standard ones.
    """

    def __init__(
        self, script: str | Path, arguments: Sequence[str], output: IO, threads: int, keep: Sequence[int] = ()
    ) -> None:
        self.returncode: int | None = None
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            os._exit(_run(str(script), arguments, output.fileno(), threads, keep))

    def poll(self) -> int | None:
        """Return the exit code, None while the process runs."""
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end.

        Raises:
            subprocess.TimeoutExpired: after ``timeout`` seconds.
        """
        start = time.monotonic()
        while self.poll() is None:
            if timeout is not None and time.monotonic() - start > timeout:
                raise subprocess.TimeoutExpired('a forked run', timeout)
            time.sleep(0.01)
        return self.returncode


def _run(script: str, arguments: Sequence[str], output: int, threads: int, keep: Sequence[int]) -> int:
    """Run the script in the child, and return its exit code; never raises."""
    try:
        # As a process that is started has them: a session of its own, signals by default, no files of the parent.
        os.setsid()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for source, target in ((nothing, 0), (output, 1), (output, 2)):
            os.dup2(source, target)
        for name in os.listdir('/proc/self/fd'):
            if int(name) > 2 and int(name) not in keep:
                _close(int(name))
        # The parent's may be a capture of a test.
        sys.stdin, sys.stdout, sys.stderr = (open(number, mode) for number, mode in ((0, 'r'), (1, 'w'), (2, 'w')))
        import torch

        os.environ.update(OMP_NUM_THREADS=str(threads), MKL_NUM_THREADS=str(threads))
        torch.set_num_threads(threads)
        sys.argv = [script, *arguments]
        sys.path.insert(0, str(Path(script).parent))
        runpy.run_path(script, run_name='__main__')
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    return code


def _close(descriptor: int) -> None:
    try:
        os.close(descriptor)
    except OSError:
        pass  # the one that listed them
