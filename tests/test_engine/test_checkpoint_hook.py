import resource
import signal
from pathlib import PurePath

import pytest
import torch
from mmengine.hooks import Hook
from tiny import tiny_config, train

from mmdml.engine.hooks import CheckpointHook
from mmdml.registry import HOOKS

PLAIN = 'contrastive/contrastive_conv4_omniglot.py'


@HOOKS.register_module()
class FullDisk(Hook):
    """From the second checkpoint on, no file may grow beyond a kilobyte."""

    def __init__(self):
        self.saved = 0

    def before_save_checkpoint(self, runner, checkpoint):
        self.saved += 1
        if self.saved == 2:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1024, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


@HOOKS.register_module()
class GivenScores(Hook):
    """Puts given scores in place of the measured ones."""

    priority = 'HIGHEST'

    def __init__(self, **scores):
        self.scores = scores

    def after_val_epoch(self, runner, metrics=None):
        metrics.update({name: values[runner.epoch - 1] for name, values in self.scores.items()})


@pytest.fixture
def disk():
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    signal.signal(signal.SIGXFSZ, handler)


def config(pictures, work_dir, *hooks, validate=True, **options):
    cfg = tiny_config(pictures, work_dir, config=PLAIN, custom_hooks=list(hooks), **options)
    if not validate:
        cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
        return cfg
    cfg.train_dataloader.dataset.val_classes = cfg.val_dataloader.dataset.val_classes = 0.25
    cfg.val_dataloader.dataset.split = 'val'
    return cfg


def files(folder):
    return sorted(file.name for file in folder.glob('*.pth'))


@pytest.mark.filterwarnings('ignore')
def test_a_full_disk_leaves_the_checkpoint_before_and_nothing_half_written(pictures, tmp_path, disk):
    with pytest.raises(OSError, match='epoch_2.pth could not be written.*newest whole checkpoint is epoch_1.pth'):
        train(config(pictures, tmp_path, dict(type='FullDisk'), validate=False))
    assert files(tmp_path) == ['epoch_1.pth'] and not list(tmp_path.glob('.*.tmp'))
    assert torch.load(tmp_path / 'epoch_1.pth', weights_only=False)['meta']['epoch'] == 1
    assert (tmp_path / 'last_checkpoint').read_text() == 'epoch_1.pth'


@pytest.mark.parametrize('keep, expected', [(1, [4]), (2, [3, 4]), (-1, [1, 2, 3, 4])])
def test_the_last_ones_are_kept(pictures, tmp_path, keep, expected):
    train(config(pictures, tmp_path, validate=False, default_hooks__checkpoint__max_keep_ckpts=keep))
    assert files(tmp_path) == [f'epoch_{number}.pth' for number in expected]


def test_a_checkpoint_that_the_run_has_not_written_is_not_removed(pictures, tmp_path):
    (tmp_path / 'run').mkdir()
    (tmp_path / 'run' / 'weights_of_mine.pth').write_text('mine')
    train(config(pictures, tmp_path / 'run', validate=False))
    assert files(tmp_path / 'run') == ['epoch_4.pth', 'weights_of_mine.pth']


def test_each_metric_has_its_best_checkpoint(pictures, tmp_path):
    scores = dict(type='GivenScores', first=[1, 3, 2, 3], second=[5, 6, 4, float('nan')])
    saved = dict(save_best=['first', 'second'], rule=['greater', 'less'], max_keep_ckpts=1)
    cfg = config(pictures, tmp_path, scores)
    cfg.merge_from_dict({f'default_hooks.checkpoint.{name}': value for name, value in saved.items()})
    train(cfg)
    assert files(tmp_path) == ['best_first_epoch_2.pth', 'best_second_epoch_3.pth', 'epoch_4.pth']
    state = torch.load(tmp_path / 'epoch_4.pth', weights_only=False)['mmdml']['hook.CheckpointHook']
    assert state['best']['second'] == dict(score=4.0, file='best_second_epoch_3.pth')


def test_a_metric_that_no_evaluation_gives_is_named_with_those_it_gives(pictures, tmp_path):
    cfg = config(pictures, tmp_path, default_hooks__checkpoint__save_best='retrieval/MAP')
    with pytest.raises(KeyError, match="save_best='retrieval/MAP' is none of the metrics.*retrieval/MAP@R"):
        train(cfg)
    assert files(tmp_path) == ['epoch_1.pth']


@pytest.mark.parametrize('name', ['epoch.pth', '../epoch_{}.pth', 'epoch_{}.ckpt', '{}_{}.pth', '.epoch_{}.pth'])
def test_a_name_that_is_no_name_of_a_checkpoint_is_refused(name):
    with pytest.raises(ValueError, match='filename_tmpl must be the name'):
        CheckpointHook(filename_tmpl=name)


def test_an_option_that_nothing_reads_is_refused():
    with pytest.raises(TypeError, match='max_keep_ckpt'):
        HOOKS.build(dict(type='CheckpointHook', max_keep_ckpt=1))


def test_every_config_gets_this_hook_by_the_name_that_mmengine_uses(pictures, tmp_path):
    from mmdml.engine import build_runner

    cfg = config(pictures, tmp_path, experiment_name='by_name')
    assert sum(type(hook) is CheckpointHook for hook in build_runner(cfg).hooks) == 1


@HOOKS.register_module()
class KeepsAnObject(Hook):
    def run_state(self):
        return {'object': PurePath('x')}

    def load_run_state(self, state):
        pass


def test_a_run_whose_checkpoints_could_not_be_loaded_ends_at_the_first_one(pictures, tmp_path):
    with pytest.raises(TypeError, match='could not be loaded again.*PurePosixPath'):
        train(tiny_config(pictures, tmp_path, custom_hooks=[dict(type='KeepsAnObject')]))
    assert not list(tmp_path.glob('*.pth'))


class InterruptedCopy:
    """What MMEngine copies for a checkpoint; Ctrl-C comes meanwhile."""

    def __deepcopy__(self, memo):
        signal.raise_signal(signal.SIGINT)
        return 'a copy'


@HOOKS.register_module()
class InterruptsSaving(Hook):
    """Puts it among what a checkpoint keeps."""

    def before_train(self, runner):
        runner.message_hub.update_info('interrupted', InterruptedCopy())


def test_ctrl_c_while_saving_ends_the_run_after_a_whole_checkpoint(pictures, tmp_path):
    cfg = tiny_config(pictures, tmp_path, PLAIN, custom_hooks=[dict(type='InterruptsSaving')])
    with pytest.raises(KeyboardInterrupt):
        train(cfg)
    (checkpoint,) = tmp_path.glob('epoch_*.pth')
    assert checkpoint.name == 'epoch_1.pth'
    assert torch.load(checkpoint, weights_only=False)['message_hub']['runtime_info']['interrupted'] == 'a copy'
