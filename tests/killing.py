"""Runs that are ended by a signal at a named moment or after some time, and the server that forks them.

Importing torch takes longer than a tiny run. The server imports once and forks a process for each run, so that a run
may be killed as often as one likes. The moments are the system calls of the real writers, seen by Python's audit hook:
nothing is replaced.
"""

import json
import os
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path

#: Scores of the epochs, so that the best checkpoint changes after the first, the second and the last one.
SCORES = (3, 5, 4, 6)
EPOCHS = len(SCORES)
BEST = 'best_retrieval_MAP@R_epoch_'
#: Moments around every write: audit event, part of a file's name, how manieth time.
MOMENTS = {
    'before the first checkpoint': ('open', '.epoch_1.pth', 1),
    'before writing': ('open', '.epoch_3.pth', 1),
    'written, not renamed': ('os.rename', 'epoch_3.pth', 1),
    'renamed, pointer old': ('os.rename', 'last_checkpoint', 3),
    'pointer set, old one there': ('os.remove', 'epoch_2.pth', 1),
    'best written, not renamed': ('os.rename', BEST, 2),
    'best renamed, old one there': ('os.remove', BEST, 1),
    'the last best, not renamed': ('os.rename', BEST, 3),
}


class Runs:
    """Starts runs, one after the other, in processes of their own.

    Use it as a context. :meth:`run` returns the number of the signal that ended the run, or 0 if it came to its end.
    """

    def __enter__(self):
        here = Path(__file__)
        environment = dict(
            os.environ, OMP_NUM_THREADS='1', PYTHONPATH=f'{here.parent}:{os.environ.get("PYTHONPATH", "")}'
        )
        self.server = subprocess.Popen(
            [sys.executable, '-W', 'ignore', here],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=here.parents[1],
        )
        return self

    def __exit__(self, *_):
        self.server.stdin.close()
        self.server.wait(60)

    def run(self, config, resume=False, at=None, by=signal.SIGKILL, cut=False, after=None):
        """Train by a config file in its folder until the end, or the signal.

        Args:
            config: path of the config; its folder is the work dir.
            resume: as ``--resume``.
            at: moment of the signal: (audit event, part of a file's name, how manieth time), e.g.
                ``('os.rename', 'epoch_2.pth', 1)`` for a checkpoint that was written and is not yet in its place.
            by: the signal.
            cut: leave half of the file that is about to be renamed, as a power cut may.
            after: seconds after which the signal comes.
        """
        job = dict(config=str(config), resume=resume, at=at, by=int(by), cut=cut, after=after)
        print(json.dumps(job), file=self.server.stdin, flush=True)
        answer = self.server.stdout.readline()
        assert answer, 'the server has ended'
        return json.loads(answer)


def serve():
    """Fork a run for every line, and answer with how it ended."""
    import torch  # noqa: F401
    from tiny import tiny_config  # noqa: F401

    import mmdml.datasets
    import mmdml.engine
    import mmdml.evaluation.metrics
    import mmdml.models  # noqa: F401

    for line in sys.stdin:
        job = json.loads(line)
        child = os.fork()
        if child == 0:
            os._exit(work(job))
        started = time.time()
        while True:
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                break
            if job['after'] is not None and time.time() - started > job['after']:
                os.kill(child, job['by'])
                job['after'] = None
            time.sleep(0.002)
        code = os.waitstatus_to_exitcode(status)
        print(json.dumps(-code if code < 0 else code), flush=True)


def work(job):
    """One run, in its own process; an exit status as a shell has it for SIGINT."""
    folder = Path(job['config']).parent
    log = os.open(folder / 'console.txt', os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    sys.stdin.close()
    if job['at'] is not None:
        sys.addaudithook(Killer(*job['at'], job['by'], job['cut']))
    try:
        train(job['config'], job['resume'])
    except KeyboardInterrupt:
        return int(signal.SIGINT)
    except BaseException as error:
        traceback.print_exc()
        # Some code of MMEngine turns whatever stops it into an error of its own.
        return int(signal.SIGINT) if isinstance(error.__context__, KeyboardInterrupt) else 99
    return 0


class Killer:
    """Audit hook that sends this process a signal at the moment it is about to do something to a file."""

    def __init__(self, event, name, count, by, cut):
        self.event, self.name, self.count, self.by, self.cut = event, name, count, by, cut

    def __call__(self, event, arguments):
        if event != self.event or not self.count:
            return
        path = arguments[1] if event == 'os.rename' else arguments[0]
        if not isinstance(path, str | os.PathLike) or self.name not in os.path.basename(path):
            return
        self.count -= 1
        if self.count == 0:
            if self.cut:
                os.truncate(arguments[0], os.path.getsize(arguments[0]) // 2)
            os.kill(os.getpid(), self.by)


def train(path, resume):
    """What tools/train.py does, without its imports; notes every epoch that begins, and gives the scores."""
    import uuid

    from mmengine.config import Config
    from mmengine.hooks import Hook

    from mmdml.engine import build_runner

    class Note(Hook):
        def after_val_epoch(self, runner, metrics=None):
            metrics['retrieval/MAP@R'] = float(SCORES[runner.epoch - 1])

        def before_train_epoch(self, runner):
            with open(Path(runner.work_dir) / 'epochs.txt', 'a') as file:
                print(runner.epoch, file=file)

    cfg = Config.fromfile(path)
    cfg.work_dir, cfg.resume, cfg.experiment_name = str(Path(path).parent), resume, uuid.uuid4().hex
    runner = build_runner(cfg)
    runner.register_hook(Note(), 'HIGHEST')
    runner.train()


def checkpoints(folder):
    """Contents of the checkpoints in a folder by name."""
    import torch

    return {file.name: torch.load(file, weights_only=False) for file in Path(folder).glob('*.pth')}


def same(left, right):
    """Whether two nested values are equal, tensors bit by bit."""
    import torch

    if isinstance(left, torch.Tensor):
        return torch.equal(left, right)
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(value, right[key]) for key, value in left.items())
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(map(same, left, right))
    return left == right


def differences(folder, whole):
    """What a run left that the uninterrupted one did not, or the other way round; empty if they are equal."""
    folder, ended = Path(folder), checkpoints(folder)
    found = sorted(ended.keys() ^ whole.keys())
    for name in ended.keys() & whole.keys():
        parts = ('state_dict', 'optimizer', 'param_schedulers', 'mmdml')
        found += [f'{name}: {part}' for part in parts if not same(whole[name].get(part), ended[name].get(part))]
    if (folder / 'last_checkpoint').read_text() != f'epoch_{EPOCHS}.pth':
        found.append('last_checkpoint')
    return found + [file.name for file in folder.glob('.*.tmp')]


def newest_and_begun(folder):
    """Number of the newest whole checkpoint, 0 for none, and of the epochs that were over when the run was ended."""
    from mmdml.engine.checkpoints import CheckpointFolder

    newest, _ = CheckpointFolder(folder).newest_whole()
    notes = Path(folder) / 'epochs.txt'
    begun = int(notes.read_text().split()[-1]) if notes.exists() else 0
    return 0 if newest is None else int(newest.stem.split('_')[1]), begun


if __name__ == '__main__':
    serve()
