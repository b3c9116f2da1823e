"""One training process of a plan: how it is started, stopped and resumed, and the row of results that it leaves."""

import json
import os
import platform
import shlex
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from forked_process import ForkedProcess
from results import locked_folder
from run_folder import final_metrics

from experiments import Run, config_hash, merged_config, train_arguments
from mmdml.utils.machine import available_cores, describe_machine

#: A change outside these folders cannot change a result; the CSV itself changes while runs are going on.
CODE_FOLDERS = ('mmdml', 'configs', 'tools', 'projects')


def code_version() -> str:
    """Return the commit of the code, with ``+dirty`` where the working tree differs; ``unknown`` outside a checkout."""
    folder = Path(__file__).resolve().parents[2]

    def git(*arguments: str) -> str:
        command = ['git', '-C', str(folder), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        # An installed package may lie inside some other repository, whose commit says nothing about it.
        if Path(git('rev-parse', '--show-toplevel')) != folder:
            return 'unknown'
        commit = git('rev-parse', '--short=12', '--verify', 'HEAD')
        return commit + ('+dirty' if git('status', '--porcelain', '--', *CODE_FOLDERS) else '')
    except (OSError, subprocess.CalledProcessError):
        return 'unknown'


def versions() -> dict[str, str]:
    """Return the versions of what a result depends on."""
    import mmengine
    import torch

    import mmdml

    return {
        'torch': torch.__version__,
        'mmengine': mmengine.__version__,
        'mmdml': mmdml.__version__,
        'python': platform.python_version(),
    }


class Job:
    """One running training process.

    Its attempts leave ``attempt_*.log`` files whose first line is JSON: the command, the code's commit and the start.

    Args:
        run: what to train.
        work_root: folder that holds the run's folder.
        train_script: script that takes the arguments of ``tools/train.py``.
        jobs: how many processes share the cores.
        fork: copy this process in place of starting one.
        threads: of torch. Default: the cores, shared among the jobs.

    Raises:
        BlockingIOError: if another process is training this run.
        ValueError: if its config cannot be read.
    """

    def __init__(
        self, run: Run, work_root: Path, train_script: Path, jobs: int, fork: bool = False, threads: int | None = None
    ) -> None:
        self.run = run
        self.jobs = jobs
        self.config_hash = config_hash(merged_config(run))
        # The hash is part of the name: a run is never resumed from checkpoints of another version of its config.
        self.work_dir = work_root / f'{run.name}-seed{run.seed}-{run.id}-{self.config_hash}'
        self._resources = ExitStack()
        lock = self._resources.enter_context(locked_folder(self.work_dir, wait=False))
        resume = any(self.work_dir.glob('*.pth'))
        arguments = [str(train_script), *train_arguments(run, self.work_dir, resume)]
        start = time.time()
        self.log = self.work_dir / f'attempt_{start:.3f}.log'
        # A number that was asked for belongs to the command: sums of other threads are rounded otherwise.
        prefix = f'OMP_NUM_THREADS={threads} ' if threads else ''
        header = {'command': prefix + shlex.join(['python', *arguments]), 'commit': code_version(), 'start': start}
        self.log.write_text(json.dumps(header) + '\n')
        threads = threads or max(1, available_cores() // jobs)
        output = self._resources.enter_context(open(self.log, 'a'))
        self.process: subprocess.Popen | ForkedProcess
        if fork:
            self.process = ForkedProcess(train_script, arguments[1:], output, threads, keep=[lock])
            return
        self.process = subprocess.Popen(
            [sys.executable, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, 'OMP_NUM_THREADS': str(threads), 'MKL_NUM_THREADS': str(threads)},
            # A session of its own, so that stopping it also stops its data-loading workers and reaches nobody else.
            start_new_session=True,
            # Keeps the folder locked as long as the training lives, even if this script is killed.
            pass_fds=[lock],
        )

    def stop(self) -> None:
        """End the process and its workers; give it ten seconds to do so itself."""
        for sign, patience in ((signal.SIGTERM, 10), (signal.SIGKILL, None)):
            if self.process.poll() is None:
                try:
                    os.killpg(self.process.pid, sign)
                except ProcessLookupError:  # a fork that has not made its session yet
                    os.kill(self.process.pid, sign)
                try:
                    self.process.wait(patience)
                except subprocess.TimeoutExpired:
                    continue
        self.close()

    def close(self) -> None:
        """End the log and release the lock."""
        with suppress(OSError):  # on a full disk the process has ended all the same
            with open(self.log, 'a') as file:
                file.write(f'exit code {self.process.returncode}\n')
        self._resources.close()

    def row(self) -> dict[str, Any]:
        """Return the CSV row of the finished run.

        Raises:
            ValueError: if its logs do not hold an evaluation of the last epoch, or one of them is broken.
        """
        updates, metrics = final_metrics(self.work_dir)
        seconds, commits, command = 0.0, [], ''
        for log in sorted(self.work_dir.glob('attempt_*.log')):
            header = _read_header(log)
            if header is None:
                continue
            # The log's last change ends an attempt; this also holds for one that was killed together with this script.
            seconds += log.stat().st_mtime - header['start']
            commits.append(header['commit'])
            command = command or header['command']
        run = self.run
        return {
            'run': run.id,
            'name': run.name,
            'config': run.config,
            'seed': run.seed,
            'options': json.dumps(run.options, sort_keys=True),
            **metrics,
            'updates': updates,
            'seconds': round(seconds, 1),
            'jobs': self.jobs,
            'commit': ' '.join(dict.fromkeys(commits)),
            **versions(),
            'machine': describe_machine(),
            'date': datetime.now(timezone.utc).strftime('%Y-%m-%d'),
            'config_hash': self.config_hash,
            'command': command,
        }


def _read_header(log: Path) -> dict[str, Any] | None:
    """Return the first line of an attempt's log; None if a kill cut it off, before the attempt started its process."""
    try:
        with open(log, encoding='utf-8', errors='replace') as file:
            header = json.loads(file.readline())
    except ValueError:
        return None
    return header if isinstance(header, dict) and {'command', 'commit', 'start'} <= header.keys() else None
