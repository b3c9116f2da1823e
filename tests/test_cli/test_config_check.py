"""What is wrong in a config is named by its path, with what is near to it, before any work."""

import os

import mmengine.registry as roots
import pytest
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import Registry
from tiny import REPO

from mmdml.cli.launch import read_config

CONFIG = os.path.join(REPO, 'configs/iaa/iaa_ms_conv4_omniglot.py')


@pytest.mark.parametrize(
    'option, value, message',
    [
        (
            'model.head.loss.betta',
            3,
            "model.head.loss.betta: MultiSimilarityLoss takes no 'betta'; did you mean 'beta'",
        ),
        ('model.nek.embed_dim', 3, "model.nek: ImageEmbedder takes no 'nek'; did you mean 'neck'"),
        ('model.head.loss.type', 'MultiSimilaritLoss', "no 'MultiSimilaritLoss'; did you mean 'MultiSimilarityLoss'"),
        ('model.head.loss.type', 'pml.SphereFaceLos', "no 'pml.SphereFaceLos'; did you mean 'pml.SphereFaceLoss'"),
        ('model.backbone.type', 'mmpretrain.ResNett', "no 'mmpretrain.ResNett'; did you mean 'mmpretrain.ResNet'"),
        ('train_dataloader.batchsize', 3, "train_dataloader.batchsize: .* did you mean 'batch_size'"),
        ('train_dataloader.sampler.image_per_class', 3, "sampler.image_per_class: PKSampler .* 'images_per_class'"),
        ('train_dataloader.dataset.pipeline.0.degree', 3, r"pipeline.0.degree: RandomAffine takes no 'degree'"),
        ('optim_wrapper.optimizer.learning_rate', 3, 'optim_wrapper.optimizer.learning_rate: Adam.* takes no'),
        ('param_scheduler.milestone', [3], "param_scheduler.milestone: MultiStepLR .* did you mean 'milestones'"),
        ('default_hooks.logger.intervall', 3, "default_hooks.logger.intervall: LoggerHook .* did you mean 'interval'"),
        ('train_cfg.max_epochs', 'abc', "train_cfg.max_epochs: EpochBasedTrainLoop takes a number, got 'abc'"),
        ('model.head.loss.base', 'x', "model.head.loss.base: MultiSimilarityLoss takes a number, got 'x'"),
        ('train_cfg.val_interval', 0, r'train_cfg.val_interval: must be a whole number >= 1, got 0 \(--no-validate'),
        ('train_cfg.max_epochs', 1.5, 'train_cfg.max_epochs: must be a whole number >= 1, got 1.5'),
        ('train_dataloader.num_workers', 'two', "train_dataloader.num_workers: must be a whole number >= 0, got 'two'"),
        ('randomness.seed', 'abc', "randomness.seed: must be a whole number >= 0, got 'abc'"),
        ('randomness.sed', 1, "randomness.sed: there is no such setting; did you mean 'seed'"),
        ('env_cfg.cudnn_benchmak', True, "env_cfg.cudnn_benchmak: .* did you mean 'cudnn_benchmark'"),
        ('optim_wrapper.paramwise_cfg', {'bias_lr_mul': 2}, "bias_lr_mul: .* did you mean 'bias_lr_mult'"),
        ('optim_wrapper.paramwise_cfg', {'norm_decay_mult': 'x'}, "norm_decay_mult: must be a number, got 'x'"),
        ('optim_wrapper.paramwise_cfg', {'custom_keys': 3}, 'custom_keys: must be a dict, got 3'),
        ('optim_wrapper.paramwise_cfg', {'custom_keys': {'neck': 3}}, 'custom_keys.neck: must be a dict such as .* 3'),
        ('optim_wrapper.paramwise_cfg.custom_keys.neck.lr_mul', 10, "neck.lr_mul: .* did you mean 'lr_mult'"),
        ('optim_wrapper.paramwise_cfg.custom_keys.neck.decay_mult', 'x', "neck.decay_mult: must be a number, got 'x'"),
        ('param_scheduler.begin', -1, 'param_scheduler.begin: must be >= 0, got -1'),
        ('auto_scale_lr.base', 2, 'auto_scale_lr.base: there is no such setting.*base_batch_size'),
        ('optim_wrapper.clip_grad.maxnorm', 1, "optim_wrapper.clip_grad.maxnorm: .* did you mean 'max_norm'"),
        ('log_level', 'INF', "log_level: must be one of .*INFO.*, got 'INF'"),
        ('launcher', 'pytorhc', 'launcher is set by its flag'),
        ('default_hooks.chekpoint', None, "default_hooks.chekpoint: there is no such hook; did you mean 'checkpoint'"),
        ('default_hooks.run_state', None, 'default_hooks.run_state: None switches off the hook'),
        ('default_hooks.step_context', None, 'default_hooks.step_context: None switches off the hook'),
        ('default_hooks.sampler_seed', None, 'default_hooks.sampler_seed: None .* every epoch has the batches of the'),
        ('param_scheduler.milestones.0', 7, 'milestones.0: an item of a list that is no dict .* give the whole list'),
        ('work_dir', 1, 'work_dir: must be a path, got the number 1; a name of digits is written ./1'),
        ('train_dataloader.dataset.data_root', 2024, 'train_dataloader.dataset.data_root: must be a path, .* 2024'),
        ('lr', 1e-4, "unknown config key 'lr'; did you mean optim_wrapper.optimizer.lr"),
        ('margin_of_nothing', 1, "unknown config key 'margin_of_nothing'$"),
        ('dropout', 0.5, "unknown config key 'dropout'; did you mean model.neck.dropout"),
        (
            'param_scheduler.milestones',
            ['a', 3],
            r'param_scheduler.milestones: MultiStepLR takes a list of numbers, got ',
        ),
        ('param_scheduler.milestones', '3', "param_scheduler.milestones: MultiStepLR takes a list of numbers, got '3'"),
        (
            'param_scheduler.milestones',
            None,
            'param_scheduler.milestones: MultiStepLR takes a list of numbers, got None',
        ),
        ('param_scheduler.milestones', [3, -1], r'param_scheduler.milestones: must be above 0, got \[3, -1\]'),
        ('param_scheduler.gamma', [0.1], r'param_scheduler.gamma: MultiStepLR takes a number, got \[0.1\]'),
        ('param_scheduler', 3, 'param_scheduler: must be a list of dicts, got 3'),
        ('param_scheduler', ['StepLR'], "param_scheduler.0: must be a dict with a type, got 'StepLR'"),
        ('param_scheduler', dict(_delete_=True, neck=[3]), 'param_scheduler.neck.0: must be a dict with a type, got 3'),
        ('param_scheduler', [dict(type='StepLR', step_size=0)], 'param_scheduler.0.step_size: must be above 0, got 0'),
        (
            'optim_wrapper.optimizer.betas',
            ('x', 1),
            'optim_wrapper.optimizer.betas: Adam takes a list of numbers, got ',
        ),
        ('train_dataloader.sampler.images_per_class', None, 'images_per_class: PKSampler takes a number, got None'),
        ('default_hooks.checkpoint.interval', None, 'checkpoint.interval: CheckpointHook takes a number, got None'),
        (
            'default_hooks.timer',
            'IterTimerHook',
            "default_hooks.timer: must be a dict with a type, got 'IterTimerHook'",
        ),
        ('default_hooks.mine', dict(interval=1), "default_hooks.mine: must be a dict with a type, got {'interval': 1}"),
        ('custom_hooks', dict(type='MeanTeacherHook'), 'custom_hooks: must be a list of dicts, got {'),
        ('custom_hooks', [dict(interval=1)], 'custom_hooks.0: must be a dict with a type, got {'),
        (
            'default_hooks.timer.priority',
            'HIGHER',
            "timer.priority: must be one of .*LOW.*, got 'HIGHER'",
        ),
        ('default_hooks.timer.priority', 200, 'timer.priority: must be .*, or a number from 0 to 100, got 200'),
        ('param_scheduler', dict(_delete_=True, type='LinearLR', start_factor=0), 'start_factor: must be above 0'),
        ('optim_wrapper.clip_grad', dict(max_norm='x'), "clip_grad.max_norm: norm takes a number, got 'x'"),
        ('optim_wrapper.clip_grad', dict(type='max'), "clip_grad.type: must be one of norm, value, got 'max'"),
        ('log_processor.windowsize', 3, "log_processor.windowsize: FreshLogProcessor .* did you mean 'window_size'"),
        ('val_cfg.fp17', True, "val_cfg.fp17: ValLoop takes no 'fp17'; did you mean 'fp16'"),
        ('val_evaluator', 3, 'val_evaluator: must be a dict or a list of dicts, got 3'),
        ('train_cfg.type', 'EpochBasedTrainLoop', 'train_cfg: type and by_epoch both choose the loop'),
        ('train_dataloader.sampler', 3, 'train_dataloader.sampler: must be a dict, got 3'),
        ('train_cfg', 3, 'train_cfg: must be a dict, got 3'),
        ('optim_wrapper.optimizer', 'Adam', "optim_wrapper.optimizer: must be a dict, got 'Adam'"),
        ('auto_scale_lr', 3, 'auto_scale_lr: must be a dict, got 3'),
        ('model.backbone.type.x', 1, '--cfg-options model.backbone.type.x'),
    ],
)
def test_a_wrong_entry_is_named_by_its_path(option, value, message):
    with pytest.raises(ValueError, match=message):
        read_config(CONFIG, {option: value})


@pytest.mark.parametrize('hooks', [3, 'x', [1]])
def test_hooks_that_are_no_dict_are_named(hooks, tmp_path):
    (tmp_path / 'mine.py').write_text(f'default_hooks = {hooks!r}\n')
    with pytest.raises(ValueError, match='default_hooks: must be a dict, got '):
        read_config(str(tmp_path / 'mine.py'), {})


@pytest.mark.parametrize(
    'code, message',
    [
        ('import sys\nsys.exit()\n', r'mine.py, line 2: the file ends the program \(SystemExit: \)'),
        ("def end():\n    raise SystemExit('no')\n\nend()\n", r'mine.py, line 4: the file ends .*\(SystemExit: no\)'),
        ("custom_imports = dict(imports=['ends_the_program'])\n", 'ends_the_program.py, line 1: the file ends the '),
        ("raise RuntimeError('no')\n", r'mine.py, line 1: RuntimeError: no'),
        ('[1][2]\n', r'mine.py, line 1: IndexError: list index out of range'),
        ("a = '{{$NOT_THERE_X:}}'\n", r'mine.py, or a file that it inherits: `NOT_THERE_X` cannot be found'),
        ("_base_ = ['nothing::x.py']\n", r'mine.py, or a file that it inherits: '),
        ('a = 1\0\n', r'mine.py, or a file that it inherits: source code string cannot contain null bytes'),
        ("x = ['a'\n", r"mine.py, or a file that it inherits, line 1: '\[' was never closed: x = \['a'"),
        ('x = 1\ny = z\n', r"mine.py, line 2: NameError: name 'z' is not defined"),
        ("x = dict(a=1)\nx['b']['c'] = 2\n", r"mine.py, line 2: KeyError: 'b'"),
    ],
)
def test_code_that_fails_is_named_by_file_and_line(code, message, tmp_path, monkeypatch):
    (tmp_path / 'ends_the_program.py').write_text('raise SystemExit(3)\n')
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / 'mine.py').write_text(code)
    with pytest.raises(ValueError, match=message):
        read_config(str(tmp_path / 'mine.py'), {})


@pytest.mark.parametrize('encoding', ['latin-1', 'utf-16'])
def test_a_config_that_is_not_utf_8_is_named(encoding, tmp_path):
    (tmp_path / 'mine.py').write_text('# é\n', encoding=encoding)
    with pytest.raises(ValueError, match=r'mine.py, or a file that it inherits, is not UTF-8 \(.*save it as UTF-8'):
        read_config(str(tmp_path / 'mine.py'), {})


def test_what_is_right_passes():
    options = {
        'model.head.loss.beta': 40,
        'model.backbone.init_cfg': None,
        'optim_wrapper.paramwise_cfg': dict(custom_keys={'neck': dict(lr_mult=10, weight_decay=0.1)}, bias_lr_mult=2.0),
        'default_hooks.logger.priority': 'LOW',
        'default_hooks.timer.priority': None,
        'train_cfg': dict(_delete_=True, type='IterBasedTrainLoop', max_iters=10, val_interval=5),
        'visualizer.vis_backends.0.type': 'LocalVisBackend',
        'optim_wrapper.optimizer.betas': [0.9, 0.99],
        'optim_wrapper.optimizer.foreach': None,
        'param_scheduler': dict(_delete_=True, neck=dict(type='StepLR', step_size=1), head=[]),
        'custom_hooks': None,
        'optim_wrapper.clip_grad': dict(type='value', clip_value=1),
    }
    assert isinstance(read_config(CONFIG, options), Config)


@pytest.fixture
def acme():
    """Hooks of another project, in a scope of its own."""

    class AcmeHook(Hook):
        def __init__(self, word=''):
            self.word = word

    hooks = Registry('hook', parent=roots.HOOKS, scope='acme')
    hooks.register_module(module=AcmeHook)
    yield
    del roots.HOOKS.children['acme']


def test_parts_are_found_in_the_scope_that_they_are_built_in(acme, tmp_path):
    file = tmp_path / 'acme.py'
    base = f"_base_ = [{CONFIG!r}]\ndefault_scope = 'acme'\n"
    file.write_text(base + "custom_hooks = [dict(type='AcmeHook', word='a'), dict(type='mmdml.EMAHook')]\n")
    read_config(str(file), {'model.backbone': dict(_delete_=True, type='LeNet5', _scope_='mmpretrain', num_classes=-1)})
    with pytest.raises(ValueError, match="custom_hooks.0.words: AcmeHook .* mean 'word'"):
        read_config(str(file), {'custom_hooks': [dict(type='AcmeHook', words='a')]})
    with pytest.raises(ValueError, match="custom_hooks.0.type: there is no 'AcmeHok'; did you mean 'AcmeHook'"):
        read_config(str(file), {'custom_hooks': [dict(type='AcmeHok')]})
    file.write_text(f"_base_ = [{CONFIG!r}]\ncustom_hooks = [dict(type='acme.AcmeHook', word='a')]\n")
    read_config(str(file), {})
