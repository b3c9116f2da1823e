"""A resumed run equals an uninterrupted one, bit by bit."""

import copy

import pytest
import torch
from mmengine.hooks import Hook
from tiny import tiny_config, train, weights

from mmdml.engine.model_of import progress_of
from mmdml.engine.run_facts import never_reached
from mmdml.registry import HOOKS

BANK = dict(model__head__sources__iaa__source='bank')
FULL = dict(**BANK, model__head__sources__iaa__noise='full')


def same(left: dict, right: dict) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[key], right[key]) for key in left)


def resumed(cfg, checkpoint, work_dir):
    cfg = copy.deepcopy(cfg)
    cfg.work_dir, cfg.resume, cfg.load_from = str(work_dir), True, str(checkpoint)
    return train(cfg)


@pytest.mark.parametrize(
    'options',
    [
        pytest.param({}, id='sweep'),
        pytest.param(BANK, id='bank'),
        pytest.param(FULL, id='full-covariance'),
        pytest.param(dict(model__head__sources__iaa__momentum=0.2), id='momentum'),
        pytest.param(dict(default_hooks__ema=dict(type='EMAHook')), id='ema'),
        pytest.param(dict(optim_wrapper__accumulative_counts=2), id='accumulation'),
        pytest.param(
            dict(param_scheduler=dict(_delete_=True, type='OneCycleLR', eta_max=0.01, total_steps=64, by_epoch=False)),
            id='one-cycle',
        ),
    ],
)
def test_a_run_resumed_after_any_epoch_is_bit_equal(pictures, tmp_path, options):
    cfg = tiny_config(pictures, tmp_path / 'whole', default_hooks__checkpoint__max_keep_ckpts=-1, **options)
    whole = train(cfg)
    assert whole.model.head.sources['iaa'].active(progress_of(whole))
    final = weights(whole)
    for epoch in (1, 2, 3):
        again = resumed(cfg, tmp_path / 'whole' / f'epoch_{epoch}.pth', tmp_path / f'from_{epoch}')
        assert same(weights(again), final), f'resumed after epoch {epoch}'
        assert (
            again.message_hub.get_scalar('val/retrieval/MAP@R').current()
            == whole.message_hub.get_scalar('val/retrieval/MAP@R').current()
        )


@pytest.mark.parametrize('options', [pytest.param({}, id='sweep'), pytest.param(BANK, id='bank')])
def test_a_run_resumed_with_workers_is_bit_equal_to_one_without(pictures, tmp_path, options):
    cfg = tiny_config(
        pictures, tmp_path / 'whole', train_cfg__max_epochs=3, default_hooks__checkpoint__max_keep_ckpts=-1, **options
    )
    final = weights(train(cfg))
    cfg.merge_from_dict({'train_dataloader.num_workers': 2, 'train_dataloader.persistent_workers': True})
    assert same(weights(resumed(cfg, tmp_path / 'whole' / 'epoch_2.pth', tmp_path / 'again')), final)
    cfg.work_dir = str(tmp_path / 'workers')
    assert same(weights(train(cfg)), final)


@pytest.mark.parametrize('stop', [5, 9])
def test_an_iteration_based_run_resumes_bit_equal_in_the_middle_of_an_epoch(pictures, tmp_path, stop):
    cfg = tiny_config(
        pictures,
        tmp_path / 'whole',
        train_cfg=dict(_delete_=True, type='IterBasedTrainLoop', max_iters=16, val_interval=4),
        param_scheduler=dict(type='MultiStepLR', milestones=[10], by_epoch=False, gamma=0.2),
        default_hooks__checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=1, max_keep_ckpts=-1),
    )
    final = weights(train(cfg))
    again = resumed(cfg, tmp_path / 'whole' / f'iter_{stop}.pth', tmp_path / 'again')
    assert same(weights(again), final)


def test_the_order_of_a_run_without_a_seed_survives_resuming(pictures, tmp_path):
    cfg = tiny_config(
        pictures, tmp_path / 'whole', train_cfg__max_epochs=2, default_hooks__checkpoint__max_keep_ckpts=-1
    )
    cfg.randomness = dict(seed=None)
    final = weights(train(cfg))
    assert same(weights(resumed(cfg, tmp_path / 'whole' / 'epoch_1.pth', tmp_path / 'again')), final)


def test_run_state_loads_as_plain_data_and_is_no_part_of_the_weights(pictures, tmp_path):
    cfg = tiny_config(pictures, tmp_path, train_cfg__max_epochs=2, **BANK)
    runner = train(cfg)
    checkpoint = torch.load(tmp_path / 'epoch_2.pth', weights_only=False)
    torch.save(checkpoint['mmdml'], tmp_path / 'state.pth')
    state = torch.load(tmp_path / 'state.pth', weights_only=True)
    assert state['hook.SweepHook']['bank']['filled'].all()
    assert state['model.head.sources.iaa.estimator']['count'].sum() > 0
    assert state['sampler'] == {'seed': runner.seed}
    assert not [key for key in checkpoint['state_dict'] if 'iaa' in key or 'bank' in key]


def test_fine_tuning_from_a_checkpoint_takes_weights_but_no_state(pictures, tmp_path):
    cfg = tiny_config(pictures, tmp_path / 'first', train_cfg__max_epochs=2)
    train(cfg)
    cfg.merge_from_dict({'work_dir': str(tmp_path / 'second'), 'load_from': str(tmp_path / 'first' / 'epoch_2.pth')})
    cfg.model.head.sources.iaa.onset = 1.0
    runner = train(cfg)
    state = runner.model.head.sources['iaa'].estimator.run_state()
    assert state == {'received': False, 'scales': {}, 'run_length': runner.max_iters}


def test_resuming_under_another_config_names_what_is_missing(pictures, tmp_path):
    train(
        tiny_config(
            pictures, tmp_path / 'plain', config='multi_similarity/ms_conv4_omniglot.py', train_cfg__max_epochs=1
        )
    )
    cfg = tiny_config(pictures, tmp_path / 'iaa')
    with pytest.raises(KeyError, match='model.head.sources.iaa'):
        resumed(cfg, tmp_path / 'plain' / 'epoch_1.pth', tmp_path / 'again')


def test_epoch_seeds_do_not_depend_on_what_was_drawn_before():
    class FakeLoop:
        pass

    class FakeRunner:
        seed, epoch, iter, train_loop = 3, 2, 40, FakeLoop()

    hook = HOOKS.build(dict(type='EpochSeedHook'))
    hook.before_train_epoch(FakeRunner)
    first = torch.rand(3)
    torch.rand(100)
    hook.before_train_epoch(FakeRunner)
    assert torch.equal(torch.rand(3), first)
    FakeRunner.epoch = 3
    hook.before_train_epoch(FakeRunner)
    assert not torch.equal(torch.rand(3), first)


@HOOKS.register_module()
class StopInEvaluation(Hook):
    """Ends the run in the middle of an evaluation, as a kill would."""

    def __init__(self, epoch):
        self.epoch = epoch

    def after_val_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.epoch == self.epoch:
            raise KeyboardInterrupt


@HOOKS.register_module()
class ScoresByEpoch(Hook):
    """Puts a given score in place of the measured one, before anything decides by it."""

    priority = 'HIGHEST'

    def __init__(self, scores):
        self.scores, self.rates = scores, {}

    def after_val_epoch(self, runner, metrics=None):
        metrics['retrieval/MAP@R'] = self.scores[runner.epoch - 1]

    def before_train_epoch(self, runner):
        self.rates[runner.epoch] = runner.optim_wrapper.get_lr()['lr'][0]


PLAIN = 'multi_similarity/ms_conv4_omniglot.py'
STEPS = dict(default_hooks__checkpoint__max_keep_ckpts=-1)


def selecting(pictures, work_dir, scores, hooks=(), **options):
    """A run whose evaluations on held-out classes give these scores."""
    options = {'train_cfg__max_epochs': len(scores), **STEPS, **options}
    hooks = [dict(type='ScoresByEpoch', scores=scores), *hooks]
    cfg = tiny_config(pictures, work_dir, config=PLAIN, custom_hooks=hooks, **options)
    cfg.train_dataloader.dataset.val_classes = cfg.val_dataloader.dataset.val_classes = 0.25
    cfg.val_dataloader.dataset.split = 'val'
    return cfg


def rates(runner):
    return next(hook.rates for hook in runner.hooks if isinstance(hook, ScoresByEpoch))


def test_a_plateau_schedule_goes_on_with_the_same_learning_rate(pictures, tmp_path):
    monitor = dict(monitor='retrieval/MAP@R', rule='greater', by_epoch=True)
    plateau = dict(_delete_=True, type='ReduceOnPlateauLR', factor=0.1, patience=0, **monitor)
    cfg = selecting(pictures, tmp_path / 'whole', [5, 4, 6, 3, 2], param_scheduler=plateau)
    whole = train(cfg)
    assert rates(whole) == pytest.approx({0: 1e-3, 1: 1e-3, 2: 1e-4, 3: 1e-4, 4: 1e-5})
    for epoch in (1, 2, 4):
        again = resumed(cfg, tmp_path / 'whole' / f'epoch_{epoch}.pth', tmp_path / f'from_{epoch}')
        assert rates(again) == {number: rate for number, rate in rates(whole).items() if number >= epoch}
        assert same(weights(again), weights(whole))


def test_early_stopping_keeps_its_patience(pictures, tmp_path):
    stopping = dict(type='EarlyStoppingHook', monitor='retrieval/MAP@R', rule='greater', patience=2)
    cfg = selecting(pictures, tmp_path / 'whole', [5, 4, 3, 2, 1, 0], hooks=[stopping])
    assert train(cfg).epoch == 3
    for epoch in (1, 2, 3):
        checkpoint = tmp_path / 'whole' / f'epoch_{epoch}.pth'
        assert resumed(cfg, checkpoint, tmp_path / f'from_{epoch}').epoch == 3, f'resumed after epoch {epoch}'


def test_two_hooks_of_one_class_keep_their_own_state(pictures, tmp_path):
    stopping = dict(type='EarlyStoppingHook', monitor='retrieval/MAP@R', rule='greater')
    hooks = [dict(stopping, patience=9), dict(stopping, patience=2, min_delta=2)]
    cfg = selecting(pictures, tmp_path / 'whole', [5, 6, 6.5, 8], hooks=hooks)
    assert train(cfg).epoch == 3
    state = torch.load(tmp_path / 'whole' / 'epoch_3.pth', weights_only=False)['mmdml']
    assert state['hook.EarlyStoppingHook'] == dict(wait_count=0, best_score=6)
    assert state['hook.EarlyStoppingHook.1'] == dict(wait_count=1, best_score=5)
    assert resumed(cfg, tmp_path / 'whole' / 'epoch_2.pth', tmp_path / 'again').epoch == 3


@pytest.mark.parametrize('epoch', [2, 3])
def test_an_interrupted_evaluation_is_made_up_and_chooses_the_same_best_epoch(pictures, tmp_path, epoch):
    scores = [3, 2, 5] if epoch == 3 else [3, 5, 2]
    options = dict(default_hooks__checkpoint__save_best='retrieval/MAP@R', default_hooks__checkpoint__max_keep_ckpts=1)
    train(selecting(pictures, tmp_path / 'whole', scores, **options))
    stop = dict(type='StopInEvaluation', epoch=epoch)
    with pytest.raises(KeyboardInterrupt):
        train(selecting(pictures, tmp_path / 'cut', scores, hooks=[stop], **options))
    best = f'best_retrieval_MAP@R_epoch_{epoch}.pth'
    assert not (tmp_path / 'cut' / best).exists()
    cfg = selecting(pictures, tmp_path / 'cut', scores, resume=True, log_level='INFO', **options)
    runner = train(cfg)
    assert sorted(file.name for file in (tmp_path / 'cut').glob('*.pth')) == [best, 'epoch_3.pth']
    left, right = (torch.load(tmp_path / name / best, weights_only=False) for name in ('whole', 'cut'))
    assert same(left['state_dict'], right['state_dict'])
    assert runner.message_hub.get_scalar('val/retrieval/MAP@R').current() == scores[-1]
    log = max((tmp_path / 'cut').glob('*/*.log')).read_text()
    assert 'MAP@R' in next(line for line in log.splitlines() if 'Done: ' in line)


def test_a_best_checkpoint_is_refused_for_resuming(pictures, tmp_path):
    options = dict(default_hooks__checkpoint__save_best='retrieval/MAP@R')
    cfg = selecting(pictures, tmp_path / 'whole', [3, 2], **options)
    train(cfg)
    best = tmp_path / 'whole' / 'best_retrieval_MAP@R_epoch_1.pth'
    with pytest.raises(ValueError, match=r"no \['optimizer'\].*best or a published.*epoch_N.pth.*load_from"):
        resumed(cfg, best, tmp_path / 'again')
    weights_only = {'state_dict': torch.load(best, weights_only=False)['state_dict']}
    torch.save(weights_only, tmp_path / 'other.pth')
    with pytest.raises(ValueError, match='another program'):
        resumed(cfg, tmp_path / 'other.pth', tmp_path / 'again')
    torch.save({'state_dict': {}}, tmp_path / 'empty.pth')
    with pytest.raises(ValueError, match='empty.pth holds no weights'):
        resumed(cfg, tmp_path / 'empty.pth', tmp_path / 'again')


@pytest.mark.parametrize(
    'change, message',
    [
        (
            {'train_dataloader.batch_size': 4, 'train_dataloader.sampler.batch_size': 4},
            'train_dataloader.batch_size: 6 then, 4 now',
        ),
        ({'optim_wrapper.optimizer': dict(type='SGD', lr=1e-3)}, 'OptimWrapper of Adam.* then, .*OptimWrapper of SGD'),
        ({'optim_wrapper.accumulative_counts': 2}, 'accumulative_counts=1 then.*accumulative_counts=2 now'),
        ({'param_scheduler': []}, 'param_scheduler: .*MultiStepLR'),
        ({'train_dataloader.dataset.val_classes': 2}, 'training images: 36 then, 2. now'),
        ({'optim_wrapper.optimizer.lr': 1e-5}, 'optim_wrapper.optimizer.lr: 0.001 then, 1e-05 now'),
        ({'train_dataloader.sampler.images_per_class': 3}, 'sampler.images_per_class: 2 then, 3 now'),
        (
            {'param_scheduler': [dict(type='MultiStepLR', milestones=[7])]},
            'param_scheduler.0.milestones.0: 5 then, 7 now',
        ),
        ({'randomness.seed': 5}, 'randomness.seed: 0 then, 5 now'),
        ({'default_hooks.ema': dict(type='EMAHook')}, 'averaged weights .EMAHook.: 0 then, 1 now'),
    ],
)
def test_resuming_another_run_is_refused_with_the_reason(pictures, tmp_path_factory, first, change, message):
    cfg = first.copy()
    cfg.merge_from_dict(change, allow_list_keys=False)
    with pytest.raises(ValueError, match=f'cannot resume.*{message}.*load_from'):
        resumed(cfg, f'{first.work_dir}/epoch_1.pth', tmp_path_factory.mktemp('again'))


def test_settings_of_the_loss_may_change_with_a_warning(tmp_path, first):
    cfg = first.copy()
    cfg.merge_from_dict({'model.head.loss.beta': 3, 'train_cfg.max_epochs': 2, 'train_dataloader.num_workers': 1})
    resumed(cfg, f'{first.work_dir}/epoch_1.pth', tmp_path)
    log = max(tmp_path.glob('*/*.log')).read_text()
    assert 'resuming with settings that the run did not have so far: model.head.loss.beta: not set then, 3 now\n' in log


@pytest.fixture(scope='module')
def first(pictures, tmp_path_factory):
    """Config of a run that was trained for an epoch."""
    options = dict(train_cfg__max_epochs=1, param_scheduler=[dict(type='MultiStepLR', milestones=[5])])
    cfg = tiny_config(pictures, tmp_path_factory.mktemp('first'), config=PLAIN, **options)
    train(cfg)
    cfg.train_cfg.max_epochs = 2
    return cfg


def test_changed_images_of_the_same_number_are_refused(pictures, tmp_path):
    import os
    import shutil

    folder = shutil.copytree(pictures, tmp_path / 'pictures')
    cfg = tiny_config(str(folder), tmp_path / 'run', train_cfg__max_epochs=2, **STEPS, **BANK)
    train(cfg)
    moved = shutil.copytree(folder, tmp_path / 'moved')
    cfg.train_dataloader.dataset.data_root = str(moved)
    resumed(cfg, tmp_path / 'run' / 'epoch_1.pth', tmp_path / 'again')
    os.rename(moved / 'class_0' / '0.png', moved / 'class_1' / '9.png')
    with pytest.raises(ValueError, match='paths and labels of the training images'):
        resumed(cfg, tmp_path / 'run' / 'epoch_1.pth', tmp_path / 'third')


def test_a_division_without_its_hook_is_refused(first, tmp_path):
    checkpoint = torch.load(f'{first.work_dir}/epoch_1.pth', weights_only=False)
    checkpoint['mmdml']['hook.DivisionHook'] = dict(clusters=torch.zeros(36), assignment=torch.zeros(36))
    torch.save(checkpoint, tmp_path / 'divided.pth')
    with pytest.raises(KeyError, match=r"state of \['hook.DivisionHook'\] that this run does not have"):
        resumed(first, tmp_path / 'divided.pth', tmp_path / 'again')


def test_a_state_without_gradients_is_a_clear_error(first, tmp_path):
    checkpoint = torch.load(f'{first.work_dir}/epoch_1.pth', weights_only=False)
    del checkpoint['mmdml']['gradients']
    torch.save(checkpoint, tmp_path / 'cut.pth')
    with pytest.raises(KeyError, match=r"no state for \['gradients'\]"):
        resumed(first, tmp_path / 'cut.pth', tmp_path / 'again')


@pytest.mark.parametrize(
    'schedule',
    [
        dict(type='MultiStepLR', milestones=[1, 2, 3], gamma=0.1),
        dict(type='ExponentialLR', gamma=0.5),
        dict(type='MultiStepLR', milestones=[2, 3], gamma=0.1, convert_to_iter_based=True),
    ],
    ids=['steps', 'exponential', 'by updates'],
)
def test_a_run_that_is_resumed_to_more_epochs_has_the_rates_of_a_long_run(pictures, tmp_path, schedule):
    def rates(runner):
        return runner.message_hub.get_scalar('train/lr').data[0].tolist()

    options = dict(config=PLAIN, default_hooks__checkpoint__max_keep_ckpts=-1)
    cfg = tiny_config(pictures, tmp_path / 'whole', **options, train_cfg__max_epochs=4)
    cfg.param_scheduler = dict(by_epoch=True, **schedule)
    whole = train(cfg)
    cfg.train_cfg.max_epochs, cfg.work_dir = 2, str(tmp_path / 'short')
    train(cfg)
    cfg.train_cfg.max_epochs = 4
    again = resumed(cfg, tmp_path / 'short' / 'epoch_2.pth', tmp_path / 'again')
    assert rates(again) == rates(whole) and len(set(rates(whole))) > 2
    assert same(weights(again), weights(whole))


def test_a_schedule_that_is_stretched_over_another_number_of_epochs_is_refused(pictures, tmp_path):
    cfg = tiny_config(pictures, tmp_path / 'short', config=PLAIN, train_cfg__max_epochs=1)
    cfg.param_scheduler = dict(type='CosineAnnealingLR', by_epoch=True)
    train(cfg)
    cfg.train_cfg.max_epochs = 2
    with pytest.raises(ValueError, match='stretched over the run.*CosineAnnealingLR.T_max: 1 then, 2 now'):
        resumed(cfg, tmp_path / 'short' / 'epoch_1.pth', tmp_path / 'again')


def test_checkpoints_inside_an_epoch_of_a_run_by_epochs_are_refused(pictures, tmp_path):
    hook = dict(type='CheckpointHook', by_epoch=False, interval=5)
    cfg = tiny_config(pictures, tmp_path, config=PLAIN, default_hooks__checkpoint=hook)
    with pytest.raises(
        ValueError, match='goes on from whole epochs only, of 7 updates, but CheckpointHook has interval=5'
    ):
        train(cfg)
    cfg.default_hooks.checkpoint.update(interval=14, max_keep_ckpts=-1)
    train(cfg)
    assert sorted(file.name for file in tmp_path.glob('*.pth')) == ['iter_14.pth', 'iter_28.pth']


def test_a_run_that_stops_early_keeps_its_last_checkpoint(pictures, tmp_path):
    cfg = tiny_config(pictures, tmp_path, config=PLAIN, train_cfg__max_epochs=8, default_hooks__checkpoint__interval=5)
    cfg.custom_hooks = [
        dict(type='EarlyStoppingHook', monitor='retrieval/MAP@R', rule='less', patience=1, min_delta=99)
    ]
    runner = train(cfg)
    assert runner.epoch < 5
    assert (tmp_path / f'epoch_{runner.epoch}.pth').is_file()
    assert (tmp_path / 'last_checkpoint').read_text() == f'epoch_{runner.epoch}.pth'
    saved = torch.load(tmp_path / f'epoch_{runner.epoch}.pth', weights_only=False)
    assert (saved['meta']['epoch'], saved['meta']['iter']) == (runner.epoch, runner.iter)
    assert saved['mmdml']['hook.ResumedEvaluationHook'] == {'due': False}


def test_epochs_in_a_run_without_them_are_refused_or_named(pictures, tmp_path):
    cfg = tiny_config(
        pictures,
        tmp_path,
        config=PLAIN,
        train_cfg=dict(_delete_=True, type='IterBasedTrainLoop', max_iters=9, val_interval=9),
        log_level='INFO',
    )
    cfg.param_scheduler = dict(type='ExponentialLR', gamma=0.5)
    with pytest.raises(ValueError, match='CheckpointHook counts epochs, which an IterBasedTrainLoop has not'):
        train(cfg)
    cfg.default_hooks.checkpoint.update(by_epoch=False, interval=3)
    train(cfg)
    text = ''.join(path.read_text() for path in tmp_path.glob('*/*.log'))
    assert 'Iter(train) [9/9]' in text and 'Epoch(train)' not in text
    assert never_reached(cfg, 1, 9) == ['ExponentialLR by epoch (the run counts updates: by_epoch=False)']
