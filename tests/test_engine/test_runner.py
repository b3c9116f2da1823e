"""One run in a work dir: what is locked, overwritten, resumed and refused."""

import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch
from mmengine.hooks import Hook
from tiny import REPO, tiny_config, train, weights

from mmdml.engine import build_runner
from mmdml.engine.checkpoints import CheckpointFolder
from mmdml.engine.run_lock import run_lock
from mmdml.engine.runner import MetricLearningRunner, with_fused_optimizer
from mmdml.evaluation.metrics import RetrievalMetric
from mmdml.registry import HOOKS

PLAIN = 'contrastive/contrastive_conv4_omniglot.py'
HOLDER = """
import sys, time
from mmdml.engine.run_lock import run_lock
with run_lock(sys.argv[1]):
    print('held', flush=True)
    time.sleep(600)
"""


@HOOKS.register_module()
class StopRun(Hook):
    """Raises in the middle of an epoch, as a failing machine would."""

    priority = 'HIGHEST'

    def __init__(self, at, where='before_train_iter'):
        self.at = at
        setattr(self, where, self.stop)

    def stop(self, runner, *args, **kwargs):
        if runner.iter == self.at:
            raise KeyboardInterrupt


def config(pictures, work_dir, **options):
    cfg = tiny_config(pictures, work_dir, config=PLAIN, **{'train_cfg__max_epochs': 2, **options})
    cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    return cfg


@pytest.fixture(scope='module')
def finished(pictures, tmp_path_factory):
    """The work dir of a run of two epochs, with both checkpoints."""
    folder = tmp_path_factory.mktemp('finished')
    train(config(pictures, folder, default_hooks__checkpoint__max_keep_ckpts=-1))
    return folder


def copy_of(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / 'copy')


def content(folder):
    return {file.name: file.read_bytes() for file in folder.glob('*.pth')}


def test_a_second_run_is_refused_where_checkpoints_are_and_leaves_them_alone(pictures, finished, tmp_path):
    folder = copy_of(finished, tmp_path)
    before = content(folder)
    with pytest.raises(FileExistsError, match='epoch_2.pth.*--resume, choose another'):
        train(config(pictures, folder))
    assert content(folder) == before


def test_resuming_where_nothing_is_is_refused(pictures, tmp_path):
    with pytest.raises(FileNotFoundError, match='nothing to resume.*epoch_N.pth.*without --resume'):
        train(config(pictures, tmp_path, resume=True))


def test_a_moved_work_dir_resumes_from_its_own_checkpoint(pictures, finished, tmp_path):
    folder = copy_of(finished, tmp_path)
    assert (folder / 'last_checkpoint').read_text() == 'epoch_2.pth'
    (folder / 'last_checkpoint').write_text(str(finished / 'epoch_1.pth'))  # as MMEngine writes it
    runner = train(config(pictures, folder, resume=True, train_cfg__max_epochs=3))
    assert runner._load_from == str(folder / 'epoch_2.pth')
    assert (folder / 'last_checkpoint').read_text() == 'epoch_3.pth'
    assert not (finished / 'epoch_3.pth').exists() and (finished / 'epoch_2.pth').exists()


def test_the_newest_whole_checkpoint_is_resumed_and_the_log_says_what_was_skipped(pictures, finished, tmp_path):
    folder = copy_of(finished, tmp_path)
    whole = (folder / 'epoch_2.pth').read_bytes()
    (folder / 'epoch_2.pth').write_bytes(whole[: len(whole) // 2])
    (folder / 'epoch_10.pth').write_bytes(b'')
    runner = train(config(pictures, folder, resume=True))
    assert runner._load_from == str(folder / 'epoch_1.pth')
    log = ''.join(path.read_text() for path in sorted(folder.glob('*/*.log')))
    assert 'epoch_10.pth (not a whole file' in log and 'epoch_2.pth (not a whole file' in log
    again, first = (torch.load(path / 'epoch_2.pth', weights_only=False)['state_dict'] for path in (folder, finished))
    assert all(torch.equal(value, again[key]) for key, value in first.items())


@pytest.mark.parametrize('where, fault', [('data', 'damaged'), ('directory', 'not a whole file')])
def test_a_flipped_bit_is_seen(finished, tmp_path, where, fault):
    folder = copy_of(finished, tmp_path)
    data = bytearray((folder / 'epoch_2.pth').read_bytes())
    # The pickle is the first entry; in the directory 46 bytes stand before each name, which is read as UTF-8.
    position = data.index(b'mmdml') if where == 'data' else data.index(b'PK\x01\x02') + 46
    data[position] ^= 1 if where == 'data' else 0x80
    if where == 'directory':
        data[position - 46 + 9] |= 0x08
    (folder / 'epoch_2.pth').write_bytes(data)
    newest, skipped = CheckpointFolder(folder).newest_whole()
    assert newest.name == 'epoch_1.pth' and f'epoch_2.pth ({fault}' in skipped[0]


def test_going_back_in_a_work_dir_is_refused(pictures, finished, tmp_path):
    folder = copy_of(finished, tmp_path)
    before = content(folder)
    with pytest.raises(FileExistsError, match='other checkpoints than .*epoch_1.pth.*epoch_2.pth'):
        train(config(pictures, folder, resume=True, load_from=str(folder / 'epoch_1.pth')))
    with pytest.raises(FileExistsError, match='epoch_2.pth'):
        train(config(pictures, folder, resume=True, load_from=str(finished / 'epoch_2.pth')))
    assert content(folder) == before


def test_resuming_into_another_work_dir_leaves_the_first_one_alone(pictures, finished, tmp_path):
    first = copy_of(finished, tmp_path)
    before = content(first)
    options = dict(resume=True, load_from=str(first / 'epoch_1.pth'), default_hooks__checkpoint__max_keep_ckpts=1)
    train(config(pictures, tmp_path / 'second', **options))
    assert content(first) == before
    assert [file.name for file in (tmp_path / 'second').glob('*.pth')] == ['epoch_2.pth']


def test_testing_beside_a_training_changes_nothing_in_its_work_dir(pictures, finished, tmp_path):
    folder = copy_of(finished, tmp_path)
    before = {file.name: file.read_bytes() for file in folder.glob('*') if file.is_file()}
    cfg = tiny_config(pictures, folder, config=PLAIN, load_from=str(folder / 'epoch_2.pth'), experiment_name='beside')
    with run_lock(str(folder)):
        assert 'retrieval/MAP@R' in build_runner(cfg).test()
    assert {file.name: file.read_bytes() for file in folder.glob('*') if file.name in before} == before


def test_two_runs_in_one_work_dir_are_refused_until_the_first_is_killed(pictures, tmp_path):
    holder = subprocess.Popen([sys.executable, '-c', HOLDER, tmp_path], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == 'held\n'
        with pytest.raises(RuntimeError, match=f'in use by another run .process {holder.pid} on .*--work-dir'):
            train(config(pictures, tmp_path))
        assert not list(tmp_path.glob('*.py')) and not list(tmp_path.glob('*.pth'))
    finally:
        holder.kill()
        holder.wait()
    train(config(pictures, tmp_path, train_cfg__max_epochs=1))


def test_two_runs_of_one_process_in_one_work_dir_are_refused(tmp_path):
    with run_lock(str(tmp_path)):
        with pytest.raises(RuntimeError, match='another run of this process'), run_lock(str(tmp_path)):
            pass
    with run_lock(str(tmp_path)):
        pass


def test_what_a_kill_left_half_written_is_removed_at_the_next_start(pictures, finished, tmp_path):
    folder = copy_of(finished, tmp_path)
    script = (
        'import os, signal, sys\nfrom mmdml.utils.files import write_atomically\n'
        'with write_atomically(sys.argv[1]) as file:\n    os.kill(os.getpid(), signal.SIGKILL)'
    )
    subprocess.run([sys.executable, '-c', script, folder / 'epoch_3.pth'])
    assert list(folder.glob('.epoch_3.pth.*.tmp'))
    train(config(pictures, folder, resume=True, train_cfg__max_epochs=3))
    assert not list(folder.glob('.*.tmp')) and (folder / 'epoch_3.pth').exists()


def test_a_run_that_failed_can_be_resumed_in_the_same_process(pictures, finished, tmp_path):
    options = dict(default_hooks__checkpoint__max_keep_ckpts=1, custom_hooks=[dict(type='StopRun', at=9)])
    with pytest.raises(KeyboardInterrupt):
        train(config(pictures, tmp_path, **options))
    assert (tmp_path / 'epoch_1.pth').exists()
    again = train(config(pictures, tmp_path, resume=True))
    final = torch.load(finished / 'epoch_2.pth', weights_only=False)['state_dict']
    assert all(torch.equal(value, final[key]) for key, value in weights(again).items())


def wait_for(condition, seconds=60):
    end = time.time() + seconds
    while not condition():
        assert time.time() < end, 'waited in vain'
        time.sleep(0.1)


def children_of(process):
    found = subprocess.run(['ps', '-o', 'pid=', '--ppid', str(process)], capture_output=True, text=True).stdout
    return [int(number) for number in found.split()]


def is_running(process):
    try:
        with open(f'/proc/{process}/stat') as file:
            return file.read().rpartition(')')[2].split()[0] != 'Z'
    except (FileNotFoundError, ProcessLookupError):
        return False


def start(cfg, folder, *arguments):
    folder.mkdir(exist_ok=True)
    cfg.dump(str(folder / 'tiny.py'))
    environment = dict(os.environ, OMP_NUM_THREADS='1', PYTHONPATH=f'{REPO}/tests')
    log = open(folder / 'console.txt', 'w')
    command = [sys.executable, '-W', 'ignore', f'{REPO}/tools/train.py', folder / 'tiny.py', *arguments]
    return subprocess.Popen(command, cwd=REPO, env=environment, stdout=log, stderr=subprocess.STDOUT)


WORKERS = dict(
    train_dataloader__num_workers=2,
    train_dataloader__persistent_workers=True,  # the same two in every epoch
    train_cfg__max_epochs=1000,
    default_hooks__checkpoint__interval=1000,
)


@pytest.fixture
def training(pictures, tmp_path):
    """A run with two loader workers, in the middle of its steps, and these workers."""
    folder = tmp_path / 'run'
    process = start(config(pictures, folder, train_dataloader__timeout=5, **WORKERS), folder)
    wait_for(lambda: any(file.read_text() for file in folder.glob('*/vis_data/scalars.json')))
    wait_for(lambda: len(children_of(process.pid)) == 2)
    yield process, children_of(process.pid)
    process.kill()
    process.wait()


@pytest.mark.slow
@pytest.mark.parametrize('by', [signal.SIGKILL, signal.SIGTERM])
def test_loader_workers_end_with_their_run(training, by):
    process, workers = training
    process.send_signal(by)
    process.wait(30)
    wait_for(lambda: not any(map(is_running, workers)), 10)


@pytest.mark.slow
def test_a_stopped_worker_ends_the_run_with_a_reason(training, tmp_path):
    process, workers = training
    for worker in workers:
        os.kill(worker, signal.SIGSTOP)
    assert process.wait(60) != 0
    assert 'a loader worker gave no batch for' in (tmp_path / 'run' / 'console.txt').read_text()


def two_ranks(cfg, folder):
    """Start a run of two processes by torchrun."""
    folder.mkdir(exist_ok=True)
    cfg.dump(str(folder / 'tiny.py'))
    environment = dict(os.environ, OMP_NUM_THREADS='1', PYTHONPATH=f'{REPO}/tests')
    launcher = ['-m', 'torch.distributed.run', '--standalone', '--nproc-per-node', '2']
    command = [sys.executable, '-W', 'ignore', *launcher, f'{REPO}/tools/train.py', folder / 'tiny.py']
    log = open(folder / 'console.txt', 'w')
    return subprocess.Popen(
        [*command, '--launcher', 'pytorch'], cwd=REPO, env=environment, stdout=log, stderr=subprocess.STDOUT
    )


def training_ranks(launcher, folder):
    wait_for(lambda: list(folder.glob('epoch_*.pth')), 120)
    ranks = children_of(launcher.pid)
    assert len(ranks) == 2
    return ranks


@pytest.fixture
def two_training_ranks(pictures, tmp_path):
    cfg = config(pictures, tmp_path / 'run', train_cfg__max_epochs=100_000, log_level='INFO')
    launcher = two_ranks(cfg, tmp_path / 'run')
    yield launcher, training_ranks(launcher, tmp_path / 'run')
    launcher.kill()
    launcher.wait()


@pytest.mark.slow
def test_when_one_rank_is_killed_the_other_ends_within_a_minute_and_the_launcher_says_why(two_training_ranks, tmp_path):
    launcher, ranks = two_training_ranks
    os.kill(ranks[1], signal.SIGKILL)
    assert launcher.wait(60) != 0
    assert not any(map(is_running, ranks))
    text = (tmp_path / 'run' / 'console.txt').read_text()
    assert 'Signal 9 (SIGKILL)' in text
    newest, _ = CheckpointFolder(tmp_path / 'run').newest_whole()
    assert newest is not None


@pytest.mark.slow
def test_ranks_end_with_their_launcher(two_training_ranks, tmp_path):
    launcher, ranks = two_training_ranks
    launcher.kill()
    launcher.wait()
    wait_for(lambda: not any(map(is_running, ranks)), 10)


def test_any_default_hook_may_be_switched_off(pictures, tmp_path):
    runner = build_runner(tiny_config(pictures, tmp_path, default_hooks__summary=None, default_hooks__timer=None))
    names = {type(hook).__name__ for hook in runner.hooks}
    assert 'SummaryHook' not in names and 'IterTimerHook' not in names and 'SweepHook' in names


def test_a_single_metric_may_name_its_measures(pictures, tmp_path):
    runner = build_runner(tiny_config(pictures, tmp_path, val_evaluator__metrics=['Recall@1']))
    by_class = runner.build_evaluator(dict(type=RetrievalMetric, metrics=['Recall@1']))
    for evaluator in (runner.val_loop.evaluator, by_class):
        assert [type(metric) for metric in evaluator.metrics] == [RetrievalMetric]


def test_memory_is_pinned_where_there_is_cuda_unless_the_config_says_otherwise(monkeypatch):
    loader = dict(dataset=[0, 1], batch_size=1, sampler=dict(type='DefaultSampler', shuffle=False))
    for has_cuda in (False, True):
        monkeypatch.setattr(torch.cuda, 'is_available', lambda has_cuda=has_cuda: has_cuda)
        assert MetricLearningRunner.build_dataloader(loader).pin_memory is has_cuda
        for said in (False, True):
            assert MetricLearningRunner.build_dataloader({**loader, 'pin_memory': said}).pin_memory is said
    assert 'pin_memory' not in loader


def test_optimizers_that_can_are_fused_and_what_the_config_says_stays():
    def fused(**optimizer):
        return with_fused_optimizer(dict(type='OptimWrapper', optimizer=optimizer))['optimizer']

    assert fused(type='Adam', lr=1.0) == dict(type='Adam', lr=1.0, fused=True)
    for said in (dict(fused=False), dict(foreach=True), dict(differentiable=True)):
        assert fused(type='Adam', **said) == dict(type='Adam', **said)
    assert fused(type='LBFGS') == dict(type='LBFGS')
    weights = [torch.nn.Parameter(torch.zeros(2))]
    for name in ('Adam', 'AdamW', 'SGD', 'Adagrad'):
        assert getattr(torch.optim, name)(weights, lr=0.1, **{'fused': fused(type=name)['fused']}).defaults['fused']


def test_on_the_cpu_the_optimizer_is_that_of_the_config(pictures, tmp_path):
    runner = build_runner(tiny_config(pictures, tmp_path))
    assert not runner.build_optim_wrapper(runner.cfg.optim_wrapper).optimizer.defaults.get('fused')
