"""Run what is missing of a plan of experiments and keep a CSV of finished runs.

    python tools/analysis_tools/run_experiments.py experiments/omniglot_iaa.yml --jobs 2

Every run is one ``tools/train.py`` process with its own folder and log; ``--fork`` saves its start. A run whose row is
in the CSV is skipped, an interrupted one goes on from its last checkpoint. Ctrl-C stops the runs this script
started, and nothing else. The format of a plan is described in ``tools/analysis_tools/experiments.py``.
"""

import argparse
import os
import re
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from forked_process import import_everything
from results import append_row, estimate_seconds, read_rows
from training_job import Job

from experiments import Run, config_hash, load_plan, merged_config
from mmdml.utils.files import prepare_output
from mmdml.utils.machine import describe_machine

TRAIN_SCRIPT = Path(os.path.relpath(Path(__file__).resolve().parents[1] / 'train.py'))


def missing_runs(runs: Sequence[Run], rows: Sequence[dict[str, str]], stale: bool = False) -> list[Run]:
    """Return the runs without a row, and report rows that were made by another version of their config.

    Args:
        runs: of the plan.
        rows: the CSV.
        stale: return the runs of such rows, too.
    """
    finished = {row['run']: row['config_hash'] for row in rows}
    changed = {run.id for run in runs if run.id in finished and finished[run.id] != config_hash(merged_config(run))}
    if not stale:
        for run in runs:
            if run.id in changed:
                print(f'STALE  {run}: the config changed since; --stale runs it again and replaces its row')
    return [run for run in runs if run.id not in finished or (stale and run.id in changed)]


def describe(runs: Sequence[Run], missing: Sequence[Run], rows: Sequence[dict[str, str]]) -> str:
    """Write the plan with its estimated hours."""
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


def machines_note(runs: Sequence[Run], rows: Sequence[dict[str, str]], here: str) -> str:
    """Say how many of the runs have rows of other machines, with which what is run here makes no pair; else ''."""
    wanted = {run.id for run in runs}
    elsewhere = Counter(row['machine'] for row in rows if row['run'] in wanted and row['machine'] not in ('', here))
    if not elsewhere:
        return ''
    there = ' and '.join(f'{count} on {machine}' for machine, count in elsewhere.items())
    return f'NOTE   measured elsewhere: {there}; this is {here}, and runs of two machines are not compared'


def run_all(
    runs: Sequence[Run],
    work_root: Path,
    csv: Path,
    jobs: int = 1,
    train_script: Path = TRAIN_SCRIPT,
    replace: bool = False,
    fork: bool = False,
    threads: int | None = None,
    interrupted: Callable[[], bool] = lambda: False,
) -> list[str]:
    """Train every given run, ``jobs`` at a time, and add a row for each that succeeds.

    Args:
        runs: what to train.
        work_root: folder that holds their folders.
        csv: of finished runs.
        jobs: how many at a time.
        train_script: script that takes the arguments of ``tools/train.py``.
        replace: put rows in the place of those of other versions of their configs.
        fork: train in copies of this process.
        threads: of torch.
        interrupted: asked between two steps; True ends the runs that were started.

    Returns:
        One message for each run that failed; the others are not affected by it.

    Raises:
        KeyboardInterrupt: if interrupted.
    """
    waiting, running, failures, finished = list(runs), [], [], 0

    def fail(run: Run, reason: str) -> None:
        failures.append(f'{run}: {reason}')
        print(f'FAILED    {failures[-1]}', flush=True)

    try:
        while waiting or running:
            if interrupted():
                raise KeyboardInterrupt
            while waiting and len(running) < jobs and not interrupted():
                run = waiting.pop(0)
                try:
                    running.append(Job(run, work_root, train_script, jobs, fork, threads))
                except BlockingIOError:
                    fail(run, 'another process is training it')
                    continue
                except (ValueError, OSError) as error:  # the config was changed while others ran, or the disk is full
                    fail(run, str(error))
                    continue
                print(f'started   {run}\n          log: {running[-1].log}', flush=True)
            for job in [job for job in running if job.process.poll() is not None]:
                running.remove(job)
                try:
                    last_words = job.log.read_text(errors='replace').rstrip().rpartition('\n')[2][:200]
                    job.close()
                    if job.process.returncode:
                        raise ValueError(f'exit code {job.process.returncode}: {last_words} (log: {job.log})')
                    row = job.row()
                    append_row(csv, row, replace)
                except Exception as error:  # whatever a folder or the CSV holds: the other runs go on
                    fail(job.run, str(error) if isinstance(error, ValueError) else f'{type(error).__name__}: {error}')
                else:
                    finished += 1
                    scores = ', '.join(f'{key} {value:.2f}' for key, value in row.items() if '/' in key)
                    print(f'finished  {job.run} in {row["seconds"] / 60:.1f} min: {scores}', flush=True)
                    print(f'          {finished + len(failures)} of {len(runs)} done', flush=True)
            time.sleep(0.02 if fork else 0.2)
    finally:
        for job in running:
            job.stop()
    return failures


def parse_args(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the flags of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('plan', help='YAML file that lists the runs')
    parser.add_argument('--csv', type=Path, help="CSV of finished runs (default: the plan's)")
    parser.add_argument('--jobs', type=int, default=1, help='how many runs at a time; they share the cores')
    parser.add_argument('--dry-run', action='store_true', help='print the plan and its estimated hours only')
    parser.add_argument(
        '--stale',
        action='store_true',
        help='run again, and replace, what was measured with another version of its config',
    )
    parser.add_argument(
        '--fork', action='store_true', help='train in copies of this process: for runs of seconds, on the CPU'
    )
    parser.add_argument('--threads', type=int, help='of torch in every run; default: the cores, shared among the jobs')
    parser.add_argument('--only', default='', metavar='REGEX', help='runs whose printed line matches')
    parser.add_argument('--train-script', type=Path, default=TRAIN_SCRIPT, help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    for name in ('jobs', 'threads'):
        if (value := getattr(args, name)) is not None and value < 1:
            parser.error(f'--{name} must be at least 1, got {value}')
    try:
        re.compile(args.only)
    except re.error as error:
        parser.error(f'--only must be a regular expression, got {args.only!r}: {error}')
    return args


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the plan, run what is missing; exit code 1 if a run failed, 2 for a faulty file, 130 if interrupted."""
    args = parse_args(arguments)
    try:
        plan = load_plan(args.plan)
        csv = args.csv or plan.csv
        rows = read_rows(csv, may_be_empty=True)
        runs = [run for run in plan.runs if re.search(args.only, str(run))]
        if not runs:
            print(f'no run of {args.plan} matches --only {args.only!r}')
            return 1
        # Between them they read the config of every run, so that none fails for it after others were trained.
        missing = missing_runs(runs, rows, args.stale)
        description = describe(runs, missing, rows)
    except (ValueError, OSError) as error:
        print(f'error: {" ".join(str(error).split())}', file=sys.stderr)
        return 2
    print(description, flush=True)
    if missing and (note := machines_note(runs, rows, describe_machine())):
        print(note, flush=True)
    if args.dry_run or not missing:
        return 0
    try:
        prepare_output(str(csv))
    except OSError as error:
        print(f'error: {error}', file=sys.stderr)
        return 2

    # Noted only: an exception at any moment would lose a run that is just being started, and a second Ctrl-C those that
    # are still being stopped.
    signals: list[int] = []
    # SIGINT too: a shell starts what runs in its background with Ctrl-C ignored, and Python keeps that.
    before = {
        number: signal.signal(number, lambda received, _: signals.append(received))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        if args.fork:
            import_everything()
        failures = run_all(
            missing,
            plan.work_root,
            csv,
            args.jobs,
            args.train_script,
            args.stale,
            args.fork,
            args.threads,
            lambda: bool(signals),
        )
    except KeyboardInterrupt:
        print('interrupted; the same command goes on from the last checkpoints')
        return 130
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    for failure in failures:
        print(f'FAILED    {failure}')
    return 1 if failures else 0


if __name__ == '__main__':
    sys.exit(main())
