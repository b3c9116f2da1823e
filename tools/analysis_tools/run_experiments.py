"""Run what is missing of a plan of experiments and keep a CSV of finished runs.

    python tools/analysis_tools/run_experiments.py experiments/omniglot_iaa.yml --jobs 2

Every run is one ``tools/train.py`` process with its own folder and log. A run whose row is in the CSV is skipped, an
interrupted one goes on from its last checkpoint. Ctrl-C stops the runs this script started, and nothing else. The
format of a plan is described in ``tools/analysis_tools/experiments.py``.
"""

import argparse
import json
import os
import platform
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from experiments import (
    Run,
    append_row,
    config_hash,
    estimate_seconds,
    final_metrics,
    load_plan,
    locked_folder,
    merged_config,
    read_rows,
    train_arguments,
)

TRAIN_SCRIPT = Path(os.path.relpath(Path(__file__).resolve().parents[1] / 'train.py'))
#: A change outside these folders cannot change a result; the CSV itself changes while runs are going on.
CODE_FOLDERS = ('mmdml', 'configs', 'tools', 'projects')


def code_version() -> str:
    """Commit of the code, with ``+dirty`` where the working tree differs from it."""
    folder = Path(__file__).resolve().parents[2]

    def git(*arguments: str) -> subprocess.CompletedProcess:
        return subprocess.run(['git', '-C', str(folder), *arguments], capture_output=True, text=True)

    commit = git('rev-parse', '--short=12', '--verify', 'HEAD')
    if commit.returncode:
        return 'unknown'
    dirty = git('status', '--porcelain', '--', *CODE_FOLDERS).stdout.strip()
    return commit.stdout.strip() + ('+dirty' if dirty else '')


def machine() -> str:
    """Processor, cores that this process may use, and the accelerator if there is one."""
    import torch

    model = platform.processor() or platform.machine()
    cpuinfo = Path('/proc/cpuinfo')
    if cpuinfo.exists():
        names = re.findall(r'^model name\s*:\s*(.+)$', cpuinfo.read_text(), flags=re.MULTILINE)
        model = names[0] if names else model
    parts = [f'{available_cores()} x {model}']
    if torch.cuda.is_available():
        parts.append(f'{torch.cuda.device_count()} x {torch.cuda.get_device_name(0)}')
    return ', '.join(parts)


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1


def versions() -> dict[str, str]:
    """Versions of what a result depends on."""
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

    Raises:
        BlockingIOError: if another process is training this run.
    """

    def __init__(self, run: Run, work_root: Path, train_script: Path, jobs: int) -> None:
        self.run = run
        self.jobs = jobs
        self.config_hash = config_hash(merged_config(run))
        # The hash is part of the name: a run is never resumed from checkpoints of another version of its config.
        self.work_dir = work_root / f'{run.name}-seed{run.seed}-{run.id}-{self.config_hash}'
        self._resources = ExitStack()
        lock = self._resources.enter_context(locked_folder(self.work_dir, wait=False))
        resume = (self.work_dir / 'last_checkpoint').exists()
        arguments = [str(train_script), *train_arguments(run, self.work_dir, resume)]
        start = time.time()
        self.log = self.work_dir / f'attempt_{start:.3f}.log'
        header = {'command': shlex.join(['python', *arguments]), 'commit': code_version(), 'start': start}
        self.log.write_text(json.dumps(header) + '\n')
        threads = str(max(1, available_cores() // jobs))
        self.process = subprocess.Popen(
            [sys.executable, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=self._resources.enter_context(open(self.log, 'a')),
            stderr=subprocess.STDOUT,
            env={**os.environ, 'OMP_NUM_THREADS': threads, 'MKL_NUM_THREADS': threads},
            # A session of its own, so that stopping it also stops its data-loading workers and reaches nobody else.
            start_new_session=True,
            # Keeps the folder locked as long as the training lives, even if this script is killed.
            pass_fds=[lock],
        )

    def stop(self) -> None:
        """End the process and its workers; give it ten seconds to do so itself."""
        for sign, patience in ((signal.SIGTERM, 10), (signal.SIGKILL, None)):
            if self.process.poll() is None:
                os.killpg(self.process.pid, sign)
                try:
                    self.process.wait(patience)
                except subprocess.TimeoutExpired:
                    continue
        self.close()

    def close(self) -> None:
        """End the log and release the lock."""
        with open(self.log, 'a') as file:
            file.write(f'exit code {self.process.returncode}\n')
        self._resources.close()

    def row(self) -> dict[str, Any]:
        """The CSV row of the finished run.

        Raises:
            ValueError: if its logs do not hold an evaluation of the last epoch.
        """
        updates, metrics = final_metrics(self.work_dir)
        seconds, commits, command = 0.0, [], ''
        for log in sorted(self.work_dir.glob('attempt_*.log')):
            with open(log, encoding='utf-8') as file:
                header = json.loads(file.readline())
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
            'machine': machine(),
            'date': datetime.now(timezone.utc).strftime('%Y-%m-%d'),
            'config_hash': self.config_hash,
            'command': command,
        }


def missing_runs(runs: Sequence[Run], rows: Sequence[dict[str, str]]) -> list[Run]:
    """Runs without a row; a row that was made by another version of its config is reported."""
    finished = {row['run']: row for row in rows}
    for run in runs:
        if run.id in finished and finished[run.id]['config_hash'] != config_hash(merged_config(run)):
            print(f'STALE  {run}: the config changed since; delete its row from the CSV to run it again')
    return [run for run in runs if run.id not in finished]


def describe(runs: Sequence[Run], missing: Sequence[Run], rows: Sequence[dict[str, str]]) -> str:
    """The plan with its estimated hours."""
    lines, known, unknown = [], 0.0, 0
    for run in runs:
        if run not in missing:
            lines.append(f'done      {run}')
            continue
        seconds = estimate_seconds(run, rows)
        known += seconds or 0
        unknown += seconds is None
        lines.append(f'{"unknown" if seconds is None else f"{seconds / 60:.1f} min":<9} {run}')
    total = f'estimated {known / 3600:.2f} h'
    if unknown:
        total += f', plus {unknown} runs of unknown length'
    return '\n'.join([*lines, f'{len(missing)} of {len(runs)} runs to do: {total}'])


def run_all(
    runs: Sequence[Run], work_root: Path, csv: Path, jobs: int = 1, train_script: Path = TRAIN_SCRIPT
) -> list[str]:
    """Train every given run, ``jobs`` at a time, and add a row for each that succeeds.

    Returns:
        One message for each run that failed; the others are not affected by it.
    """
    waiting, running, failures, finished = list(runs), [], [], 0

    def fail(run: Run, reason: str) -> None:
        failures.append(f'{run}: {reason}')
        print(f'FAILED    {failures[-1]}', flush=True)

    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                run = waiting.pop(0)
                try:
                    running.append(Job(run, work_root, train_script, jobs))
                except BlockingIOError:
                    fail(run, 'another process is training it')
                    continue
                print(f'started   {run}\n          log: {running[-1].log}', flush=True)
            for job in [job for job in running if job.process.poll() is not None]:
                running.remove(job)
                last_words = job.log.read_text(errors='replace').rstrip().rpartition('\n')[2][:200]
                job.close()
                try:
                    if job.process.returncode:
                        raise ValueError(f'exit code {job.process.returncode}: {last_words} (log: {job.log})')
                    row = job.row()
                except ValueError as error:
                    fail(job.run, str(error))
                else:
                    append_row(csv, row)
                    finished += 1
                    scores = ', '.join(f'{key} {value:.2f}' for key, value in row.items() if '/' in key)
                    print(f'finished  {job.run} in {row["seconds"] / 60:.1f} min: {scores}', flush=True)
                    print(f'          {finished + len(failures)} of {len(runs)} done', flush=True)
            time.sleep(0.2)
    finally:
        for job in running:
            job.stop()
    return failures


def parse_args(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Flags of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('plan', help='YAML file that lists the runs')
    parser.add_argument('--csv', type=Path, help="CSV of finished runs (default: the plan's)")
    parser.add_argument('--jobs', type=int, default=1, help='how many runs at a time; they share the cores')
    parser.add_argument('--dry-run', action='store_true', help='print the plan and its estimated hours only')
    parser.add_argument('--only', default='', metavar='REGEX', help='runs whose printed line matches')
    parser.add_argument('--train-script', type=Path, default=TRAIN_SCRIPT, help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    if args.jobs < 1:
        parser.error(f'--jobs must be at least 1, got {args.jobs}')
    return args


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the plan, run what is missing; exit code 1 if a run failed, 130 if interrupted."""
    args = parse_args(arguments)
    plan = load_plan(args.plan)
    csv = args.csv or plan.csv
    runs = [run for run in plan.runs if re.search(args.only, str(run))]
    if not runs:
        print(f'no run of {args.plan} matches --only {args.only!r}')
        return 1
    rows = read_rows(csv)
    missing = missing_runs(runs, rows)
    print(describe(runs, missing, rows), flush=True)
    if args.dry_run:
        return 0

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    # SIGINT too: a shell starts what runs in its background with Ctrl-C ignored, and Python keeps that.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupt)
    try:
        failures = run_all(missing, plan.work_root, csv, args.jobs, args.train_script)
    except KeyboardInterrupt:
        print('interrupted; the same command goes on from the last checkpoints')
        return 130
    for failure in failures:
        print(f'FAILED    {failure}')
    return 1 if failures else 0


if __name__ == '__main__':
    sys.exit(main())
