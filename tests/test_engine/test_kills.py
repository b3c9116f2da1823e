"""A run that is killed at any moment resumes, has lost one interval at most, and ends as if it had not been."""

import signal

import pytest
from killing import EPOCHS, MOMENTS, Runs, checkpoints, differences, newest_and_begun
from tiny import tiny_config

from mmdml.engine.checkpoints import CheckpointFolder

# benchmarks/kills.py has more of them.
QUICK = ('written, not renamed', 'renamed, pointer old', 'the last best, not renamed')


@pytest.fixture(scope='module')
def runs():
    with Runs() as server:
        yield server


def write_config(pictures, folder):
    """IAA from a bank, selection on held-out classes, one checkpoint kept."""
    folder.mkdir()
    cfg = tiny_config(
        pictures,
        folder,
        train_cfg__max_epochs=EPOCHS,
        model__head__sources__iaa__source='bank',
        default_hooks__checkpoint__save_best='retrieval/MAP@R',
        log_level='INFO',
    )
    cfg.train_dataloader.dataset.val_classes = cfg.val_dataloader.dataset.val_classes = 0.25
    cfg.val_dataloader.dataset.split = 'val'
    cfg.dump(str(folder / 'tiny.py'))
    return folder / 'tiny.py'


def console(config):
    return (config.parent / 'console.txt').read_text()[-3000:]


@pytest.fixture(scope='module')
def whole(pictures, tmp_path_factory, runs):
    """What an uninterrupted run leaves."""
    config = write_config(pictures, tmp_path_factory.mktemp('whole') / 'run')
    assert runs.run(config) == 0, console(config)
    return checkpoints(config.parent)


def resume_to_the_end(runs, config, whole):
    newest, begun = newest_and_begun(config.parent)
    assert newest >= begun
    assert runs.run(config, resume=newest > 0) == 0, console(config)
    assert not differences(config.parent, whole)


@pytest.mark.parametrize(
    'moment', [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in MOMENTS]
)
def test_a_kill_around_a_write_costs_no_more_than_the_interval(pictures, tmp_path, runs, whole, moment):
    config = write_config(pictures, tmp_path / 'run')
    assert runs.run(config, at=MOMENTS[moment]) == signal.SIGKILL, console(config)
    resume_to_the_end(runs, config, whole)


@pytest.mark.slow
def test_a_file_that_a_power_cut_left_half_written_is_skipped(pictures, tmp_path, runs, whole):
    config = write_config(pictures, tmp_path / 'run')
    assert runs.run(config, at=('os.rename', 'epoch_2.pth', 1), cut=True) == signal.SIGKILL
    # A file system may have renamed the file before its content was there.
    (half,) = config.parent.glob('.epoch_2.pth.*.tmp')
    half.rename(config.parent / 'epoch_2.pth')
    newest, skipped = CheckpointFolder(config.parent).newest_whole()
    assert newest.name == 'epoch_1.pth' and 'epoch_2.pth (not a whole file' in skipped[0]
    assert runs.run(config, resume=True) == 0, console(config)
    assert not differences(config.parent, whole)


@pytest.mark.slow
@pytest.mark.parametrize('by', [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_a_checkpoint_is_written_leaves_the_old_one(pictures, tmp_path, runs, whole, by):
    config = write_config(pictures, tmp_path / 'run')
    assert runs.run(config, at=('os.rename', 'epoch_2.pth', 1), by=by) == by, console(config)
    resume_to_the_end(runs, config, whole)


@pytest.mark.slow
def test_a_run_killed_again_and_again_comes_to_its_end(pictures, tmp_path, runs, whole):
    config = write_config(pictures, tmp_path / 'run')
    moments = [('os.rename', 'epoch_1.pth', 1), ('os.remove', 'epoch_1.pth', 1), ('open', '.epoch_3.pth', 1)]
    newest = 0
    for moment in moments:
        assert runs.run(config, resume=newest > 0, at=moment) == signal.SIGKILL
        newest, begun = newest_and_begun(config.parent)
        assert newest >= begun
    resume_to_the_end(runs, config, whole)
