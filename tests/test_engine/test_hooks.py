import ast
import os
import re
import shutil

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.model import BaseModule
from mmengine.runner import Runner
from tiny import tiny_config, train, weights

from mmdml.registry import HOOKS, MODELS

PLAIN = 'multi_similarity/ms_conv4_omniglot.py'


@HOOKS.register_module()
class WatchBackbone(Hook):
    """Keeps the backbone's and the neck's first weights after every epoch."""

    def __init__(self):
        self.seen = []

    def after_train_epoch(self, runner):
        model = runner.model
        self.seen.append((model.backbone.blocks[0].weight.clone(), model.neck.linear.weight.clone()))


def test_a_frozen_backbone_stays_for_the_warm_up_and_trains_after_it(pictures, tmp_path):
    hooks = [dict(type='FreezeBackboneHook', epochs=2), dict(type='WatchBackbone')]
    runner = train(tiny_config(pictures, tmp_path, config=PLAIN, custom_hooks=hooks))
    seen = next(hook.seen for hook in runner.hooks if isinstance(hook, WatchBackbone))
    backbone, neck = zip(*seen, strict=True)
    assert torch.equal(backbone[0], backbone[1]) and not torch.equal(backbone[1], backbone[2])
    assert not torch.equal(neck[0], neck[1])


def test_a_backbone_frozen_for_the_whole_run_comes_out_as_it_went_in(pictures, tmp_path):
    # Adam with weight decay would move a parameter whose gradient is zero instead of missing.
    cfg = tiny_config(
        pictures,
        tmp_path,
        config=PLAIN,
        custom_hooks=[dict(type='FreezeBackboneHook', epochs=9)],
        optim_wrapper__optimizer__weight_decay=0.1,
    )
    cfg.load_from = str(tmp_path / 'start.pth')
    start = MODELS.build(cfg.model).state_dict()
    torch.save(dict(state_dict=start), cfg.load_from)
    trained = weights(train(cfg))
    for name in ('backbone.blocks.0.weight', 'backbone.blocks.1.weight', 'backbone.blocks.1.bias'):
        assert torch.equal(trained[name], start[name])
    assert not torch.equal(trained['neck.linear.weight'], start['neck.linear.weight'])


def test_a_warm_up_of_no_epochs_is_refused():
    with pytest.raises(ValueError, match='epochs must be an integer of at least 1, got 0'):
        HOOKS.build(dict(type='FreezeBackboneHook', epochs=0))


SAVE_BEST = dict(default_hooks__checkpoint__save_best='retrieval/MAP@R')


def test_a_best_checkpoint_chosen_on_test_classes_is_refused(pictures, tmp_path):
    cfg = tiny_config(pictures, tmp_path, config=PLAIN, **SAVE_BEST)
    cfg.val_dataloader.dataset.split = 'test'
    with pytest.raises(ValueError, match="CheckpointHook.*select by scores on test classes(.|\n)*split='val'"):
        train(cfg)


def test_training_on_images_without_labels_is_refused(pictures, tmp_path):
    cfg = tiny_config(pictures, tmp_path)
    cfg.train_dataloader.dataset.unlabeled = True
    cfg.train_dataloader.sampler = dict(type='DefaultSampler', shuffle=True)
    with pytest.raises(ValueError, match='the training images have no labels .*--no-scores'):
        Runner.from_cfg(cfg).train()


def test_early_stopping_on_test_classes_is_refused(pictures, tmp_path):
    hooks = [dict(type='EarlyStoppingHook', monitor='retrieval/MAP@R', rule='greater')]
    cfg = tiny_config(pictures, tmp_path, config=PLAIN, custom_hooks=hooks)
    cfg.val_dataloader.dataset.split = 'test'
    with pytest.raises(ValueError, match='EarlyStoppingHook'):
        train(cfg)


def test_a_best_checkpoint_is_kept_on_validation_classes_which_do_not_train(pictures, tmp_path):
    cfg = tiny_config(pictures, tmp_path, config=PLAIN, **SAVE_BEST, train_cfg__max_epochs=2)
    cfg.train_dataloader.dataset.val_classes = cfg.val_dataloader.dataset.val_classes = 0.25
    cfg.val_dataloader.dataset.split = 'val'
    runner = train(cfg)
    trained, held = (loader.dataset.metainfo['classes'] for loader in (runner.train_dataloader, runner.val_dataloader))
    assert len(held) == 2 and not set(trained) & set(held)
    assert list(tmp_path.glob('best_retrieval_MAP@R_epoch_*.pth'))


def test_validation_classes_that_are_trained_on_select_nothing(pictures, tmp_path):
    cfg = tiny_config(pictures, tmp_path, config=PLAIN, **SAVE_BEST)
    cfg.val_dataloader.dataset.update(split='val', val_classes=0.25)
    with pytest.raises(ValueError, match="2 validation classes that are trained on, e.g. 'class_6'"):
        train(cfg)


def test_a_plateau_schedule_on_test_classes_is_refused(pictures, tmp_path):
    cfg = tiny_config(pictures, tmp_path, config=PLAIN)
    cfg.param_scheduler = dict(type='ReduceOnPlateauLR', monitor='retrieval/MAP@R', rule='greater', by_epoch=True)
    cfg.val_dataloader.dataset.split = 'test'
    with pytest.raises(ValueError, match='ReduceOnPlateauLR.*test classes'):
        train(cfg)


@pytest.fixture
def halves(pictures, tmp_path):
    """The classes of the pictures in two folders, 'train' and 'test'."""
    for number, name in enumerate(sorted(os.listdir(pictures))):
        shutil.copytree(f'{pictures}/{name}', tmp_path / ('train', 'test')[number % 2] / name)
    return tmp_path


def of_halves(halves, **options):
    cfg = tiny_config('', halves / 'run', config=PLAIN, **options)
    cfg.train_dataloader.dataset.data_root = str(halves / 'train')
    for loader in (cfg.val_dataloader, cfg.test_dataloader):
        loader.dataset.update(data_root=str(halves / 'test'), split='test')
    return cfg


def test_the_printed_remedy_validates_on_training_classes_where_train_and_test_are_two_folders(halves):
    cfg = of_halves(halves, **SAVE_BEST, train_cfg__max_epochs=1)
    with pytest.raises(ValueError, match='would select by scores on test classes') as refused:
        train(cfg)
    settings = re.findall(r'(\S+)=(\S+)', str(refused.value).partition('training data: ')[2])
    cfg.merge_from_dict({key: ast.literal_eval(value) for key, value in settings})
    assert cfg.val_dataloader.dataset.data_root == str(halves / 'train')
    runner = train(cfg)
    trained, held = (loader.dataset.metainfo['classes'] for loader in (runner.train_dataloader, runner.val_dataloader))
    assert sorted([*trained, *held]) == sorted(os.listdir(halves / 'train'))


def test_held_out_classes_of_the_test_folder_select_nothing(halves):
    cfg = of_halves(halves, **SAVE_BEST)
    cfg.train_dataloader.dataset.val_classes = 0.25
    cfg.val_dataloader.dataset.update(split='val', val_classes=0.25)
    with pytest.raises(ValueError, match=r'pictures of the test data, e\.g\. .*/test/class_'):
        train(cfg)


def test_the_test_folder_selects_nothing_under_the_name_of_training_classes(halves):
    cfg = of_halves(halves, **SAVE_BEST)
    for loader in (cfg.val_dataloader, cfg.test_dataloader):
        loader.dataset.split = 'train'
    with pytest.raises(ValueError, match=r'pictures of the test data, e\.g\. .*/test/class_.*val_classes=0.2'):
        train(cfg)


def test_evaluations_on_unseen_classes_are_called_a_monitor_on_test_classes(halves):
    cfg = of_halves(halves, train_cfg__max_epochs=1, log_level='INFO')
    train(cfg)
    text = ''.join(path.read_text() for path in halves.glob('run/*/*.log'))
    assert 'a monitor on test classes: they select nothing' in text
    assert '(test classes, last evaluation)' in text


def test_a_loader_whose_batches_are_not_the_samplers_is_refused(pictures, tmp_path):
    cfg = tiny_config(pictures, tmp_path, config=PLAIN, train_dataloader__batch_size=5)
    with pytest.raises(ValueError, match='batch_size is 5, but its sampler orders batches of 6'):
        train(cfg)


def test_a_run_too_short_for_the_onset_is_refused_before_it_starts(pictures, tmp_path):
    cfg = tiny_config(pictures, tmp_path, model__head__sources__iaa__onset=30)
    with pytest.raises(ValueError, match=r'IAA would never begin: onset=30(.|\n)*the run has 28 \(4 epochs\)'):
        train(cfg)


@pytest.mark.parametrize(
    'part',
    [
        dict(model__head__sources__memory=dict(type='CrossBatchMemory', size=8, start=20)),
        dict(
            model__head__distillations=dict(
                s2sd=dict(type='S2SD', in_channels=8, dims=(8,), loss=dict(type='ContrastiveLoss'))
            )
        ),
    ],
    ids=['memory', 's2sd'],
)
def test_what_begins_after_the_end_of_the_run_is_named(pictures, tmp_path, part):
    cfg = tiny_config(pictures, tmp_path, config=PLAIN, train_cfg__max_epochs=1, **part)
    cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    train(cfg)
    text = ''.join(path.read_text() for path in tmp_path.glob('*/*.log'))
    words = r'(CrossBatchMemory|S2SD) \(head\.\w+\.\w+\) waits for [\d,]+ updates, but the run has 7: what it does'
    assert len(re.findall(words, text)) == 1


def test_a_run_ends_with_one_line_of_updates_scores_and_checkpoint(pictures, tmp_path):
    cfg = tiny_config(pictures, tmp_path, config=PLAIN, train_cfg__max_epochs=1, log_level='INFO')
    cfg.val_dataloader.dataset.split = 'test'
    train(cfg)
    text = ''.join(path.read_text() for path in tmp_path.glob('*/*.log'))
    line = next(line for line in text.splitlines() if 'Done: ' in line)
    assert '7 updates in 0 min' in line and 'Recall@1' in line and 'MAP@R' in line
    # The pictures are those that are trained on: they are called so, whatever the split.
    assert 'training classes, 36 of 36 pictures trained on, last evaluation' in line and 'epoch_1.pth' in line
    assert "Evaluations with split='test' are on training classes" in text


def test_a_run_without_validation_ends_well(pictures, tmp_path):
    cfg = tiny_config(pictures, tmp_path, config=PLAIN, train_cfg__max_epochs=1)
    cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    assert train(cfg).iter == 7


def test_gradient_accumulation_updates_once_in_n_steps(pictures, tmp_path):
    cfg = tiny_config(pictures, tmp_path, config=PLAIN, train_cfg__max_epochs=2, optim_wrapper__accumulative_counts=7)
    steps = {state['step'].item() for state in train(cfg).optim_wrapper.optimizer.state.values()}
    assert steps == {2}


@HOOKS.register_module()
class FollowWeights(Hook):
    """An exponential moving average by hand."""

    def __init__(self, momentum):
        self.momentum, self.average = momentum, None

    def after_train_iter(self, runner, **_):
        now = runner.model.neck.linear.weight.detach().clone()
        self.average = now if self.average is None else self.average.lerp(now, self.momentum)


def test_ema_weights_are_what_is_evaluated_and_saved(pictures, tmp_path):
    cfg = tiny_config(
        pictures,
        tmp_path,
        train_cfg__max_epochs=2,
        default_hooks__ema=dict(type='EMAHook', momentum=0.05),
        custom_hooks=[dict(type='FollowWeights', momentum=0.05)],
    )
    runner = train(cfg)
    average = next(hook.average for hook in runner.hooks if isinstance(hook, FollowWeights))
    saved = torch.load(tmp_path / 'epoch_2.pth', weights_only=False)['state_dict']['neck.linear.weight']
    torch.testing.assert_close(saved, average.cpu())
    assert not torch.equal(saved, runner.model.neck.linear.weight.cpu())
    monitored = runner.message_hub.get_scalar('val/retrieval/MAP@R').current()
    cfg.default_hooks.pop('ema')
    cfg.custom_hooks = []
    cfg.load_from = str(tmp_path / 'epoch_2.pth')
    cfg.experiment_name = 'scores_of_the_averaged_weights'
    assert Runner.from_cfg(cfg).test()['retrieval/MAP@R'] == pytest.approx(monitored, rel=1e-6)


@MODELS.register_module()
class Columns(BaseModule):
    """A backbone whose weights are there after ``init_weights``, as those of a file are."""

    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(28, 8)

    def init_weights(self):
        torch.nn.init.eye_(self.linear.weight)
        torch.nn.init.zeros_(self.linear.bias)

    def forward(self, images):
        return self.linear(images.mean((1, 2)))[:, :, None, None]


@pytest.mark.parametrize('begin', [dict(begin_epoch=2), dict(begin_iter=9), {}])
def test_an_average_of_adapters_has_the_frozen_weights_also_before_it_begins(pictures, tmp_path, begin):
    backbone = dict(type='LoRABackbone', rank=2, targets=['linear'], backbone=dict(type='Columns'))
    hook = dict(type='EMAHook', momentum=0.05, **begin)
    cfg = tiny_config(pictures, tmp_path, config=PLAIN, train_cfg__max_epochs=2, default_hooks__ema=hook)
    cfg.model.backbone = backbone
    cfg.default_hooks.checkpoint.update(interval=1, max_keep_ckpts=2)
    runner = train(cfg)
    saved = torch.load(tmp_path / 'epoch_1.pth', weights_only=False)['state_dict']
    # In place of the frozen weights, bias and identity, a checkpoint has their sums and norms.
    torch.testing.assert_close(saved['backbone.frozen_checksums'], torch.tensor([[0, 0], [8, 8**0.5]]))
    monitored = runner.message_hub.get_scalar('val/retrieval/MAP@R').data[0][0]
    cfg.default_hooks.pop('ema')
    cfg.load_from = str(tmp_path / 'epoch_1.pth')
    cfg.experiment_name = f'scores_of_adapters_{begin}'
    assert Runner.from_cfg(cfg).test()['retrieval/MAP@R'] == pytest.approx(monitored, rel=1e-6)


def test_the_number_of_learners_is_no_average(pictures, tmp_path):
    cfg = tiny_config(
        pictures,
        tmp_path,
        config='divide_and_conquer/dc-k4_margin_conv4_omniglot.py',
        default_hooks__ema=dict(type='EMAHook', momentum=0.5, update_buffers=True),
        model__neck__num_learners=2,
    )
    cfg.train_cfg.max_epochs, cfg.custom_hooks = 2, [dict(type='DivisionHook', divide_until=2)]
    runner = train(cfg)
    saved = torch.load(tmp_path / 'epoch_2.pth', weights_only=False)['state_dict']
    assert saved['neck.active_learners'] == runner.model.neck.num_active == 2


def test_an_average_that_would_never_begin_is_refused(pictures, tmp_path):
    cfg = tiny_config(pictures, tmp_path, config=PLAIN, default_hooks__ema=dict(type='EMAHook', begin_epoch=5))
    with pytest.raises(ValueError, match='EMAHook: begin_epoch=5 and begin_iter=0 lie beyond the 4 epochs'):
        train(cfg)


@pytest.mark.parametrize('settings', [dict(momentum=2), dict(begin_epoch=-1), dict(ema_typ='a')])
def test_an_average_with_wrong_settings_is_refused_when_it_is_built(settings):
    with pytest.raises(ValueError, match=r'EMAHook: .*(momentum|begin_epoch|ema_typ)'):
        HOOKS.build(dict(type='EMAHook', **settings))


def test_a_data_set_without_labels_cannot_serve_statistics(pictures, tmp_path):
    cfg = tiny_config(pictures, tmp_path)
    cfg.train_dataloader.sampler = dict(type='DefaultSampler', shuffle=True)
    cfg.train_dataloader.dataset = dict(
        type='mmpretrain.CustomDataset', data_root=pictures, pipeline=cfg.train_dataloader.dataset.pipeline
    )
    with pytest.raises(ValueError, match='IAAEstimator.*CustomDataset is not an mmdml data set'):
        train(cfg)


@pytest.mark.parametrize('freeze', [True, False])
def test_parts_that_are_computed_again_train_as_without(pictures, tmp_path, freeze):
    cfg = tiny_config(pictures, tmp_path / 'plain', config=PLAIN, train_cfg__max_epochs=1)
    cfg.model.freeze_bn_stats = freeze
    cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    plain = train(cfg)
    cfg.work_dir, cfg.activation_checkpointing = str(tmp_path / 'again'), ['backbone']
    again = train(cfg)
    for name, weight in weights(plain).items():
        torch.testing.assert_close(weights(again)[name], weight, msg=name)


def test_a_custom_key_that_names_nothing_is_named(pictures, tmp_path):
    cfg = tiny_config(pictures, tmp_path, config=PLAIN, train_cfg__max_epochs=1)
    cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    cfg.optim_wrapper.paramwise_cfg = dict(custom_keys={'nek': dict(lr_mult=10), 'head': dict(lr_mult=2)})
    train(cfg)
    text = ''.join(path.read_text() for path in tmp_path.glob('*/*.log'))
    assert "custom_keys: 'nek' is in no name of the model, and does nothing; did you mean 'neck'?" in text
    assert "'head' is in no name" not in text
