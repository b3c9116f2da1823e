"""A resumed run equals an uninterrupted one, bit by bit."""

import copy

import pytest
import torch
from tiny import tiny_config, train, weights

from mmdml.engine.model_of import progress_of
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
    assert runner.model.head.sources['iaa'].estimator.run_state() == {'received': False, 'scales': {}}


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
