"""Division in real runs: stages, purity, resume, IAA inside."""

import copy
from pathlib import Path

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from tiny import tiny_config, train, weights

from mmdml.models import DivideAndConquerEmbedding, DivideAndConquerHead
from mmdml.registry import HOOKS
from mmdml.structures import Embeddings, Progress

PLAIN, IAA = 'multi_similarity/ms_conv4_omniglot.py', 'iaa/iaa_ms_conv4_omniglot.py'
SLICES = dict(division='slices')
MASKS = dict(division='masks')


@HOOKS.register_module()
class WatchDivision(Hook):
    """What every step trained."""

    priority = 'LOWEST'

    def __init__(self):
        self.steps = []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        division = next(hook for hook in runner.hooks if type(hook).__name__ == 'DivisionHook')
        indices = [sample.sample_idx for sample in data_batch['data_samples']]
        assignment = division.assignment
        clusters = None if assignment is None else sorted(set(assignment[indices].tolist()))
        self.steps.append((runner.epoch, runner.model.step.learner_index, clusters, runner.model.neck.num_active))


def division_config(pictures, work_dir, neck=SLICES, config=PLAIN, hook=None, **options):
    """Two learners, 6 epochs: warm-up 0-1, divide 1-4, joint 4-5, fine-tune 5."""
    division = dict(type='DivisionHook', warm_up=1, divide_until=4, fine_tune_from=5, interval=1)
    options.setdefault('train_cfg__max_epochs', 6)
    cfg = tiny_config(
        pictures,
        work_dir,
        config=config,
        default_hooks__checkpoint__max_keep_ckpts=-1,
        custom_hooks=[{**division, **(hook or {})}, dict(type='WatchDivision')],
        find_unused_parameters=True,
        **options,
    )
    cfg.model.neck = dict(type='DivideAndConquerEmbedding', in_channels=8, embed_dim=6, num_learners=2, **neck)
    cfg.model.head.update(
        type='DivideAndConquerHead', regularizers=dict(diversity=dict(type='MaskDiversity', weight=0.01))
    )
    cfg.train_dataloader.sampler = dict(type='ClusterPKSampler', batch_size=6, images_per_class=2)
    return cfg


def head_of(loss, **options):
    """The head of a neck with four learners."""
    head = DivideAndConquerHead(loss, **options)
    head.bind(DivideAndConquerEmbedding(8, 8, 4))
    return head


def steps_of(runner):
    return next(hook.steps for hook in runner.hooks if isinstance(hook, WatchDivision))


@pytest.mark.parametrize('neck', [SLICES, MASKS], ids=['slices', 'masks'])
def test_stages_follow_each_other_and_batches_of_a_learner_come_from_its_cluster(pictures, tmp_path, neck):
    runner = train(division_config(pictures, tmp_path, neck))
    steps = steps_of(runner)
    assert len(steps) == 6 * 6  # floor(36 / 6) batches an epoch, whatever the clusters are
    for epoch, learner, clusters, active in steps:
        if epoch == 0:
            assert learner is None and clusters is None and active == 1
        elif epoch < 4:
            assert clusters == [learner] and active == 2
        elif epoch == 4:
            assert learner is None and len(clusters) == 1
        else:
            assert learner is None
    assert {learner for epoch, learner, *_ in steps if 1 <= epoch < 4} == {0, 1}
    assert any(len(clusters) > 1 for epoch, _, clusters, _ in steps if epoch == 5)
    assert runner.message_hub.get_scalar('val/retrieval/MAP@R').current() > 0


def test_a_hierarchy_doubles_its_learners_every_interval(pictures, tmp_path):
    hook = dict(hierarchical=True, warm_up=0, divide_until=6, fine_tune_from=None, interval=2)
    steps = steps_of(train(division_config(pictures, tmp_path, MASKS, hook=hook)))
    assert [active for _, _, _, active in steps[::6]] == [1, 1, 2, 2, 2, 2]


@pytest.mark.parametrize('neck', [SLICES, MASKS], ids=['slices', 'masks'])
@pytest.mark.parametrize('config', [PLAIN, IAA], ids=['plain', 'iaa'])
def test_a_run_resumed_in_any_stage_equals_the_uninterrupted_one(pictures, tmp_path, neck, config):
    # Divisions at epochs 1 and 3: a run resumed at 2 or 4 goes on with the clusters that it had.
    cfg = division_config(pictures, tmp_path / 'whole', neck, config, hook=dict(interval=2))
    final = weights(train(cfg))
    for epoch in (1, 2, 4, 5):
        again = copy.deepcopy(cfg)
        again.work_dir, again.resume = str(tmp_path / f'from_{epoch}'), True
        again.load_from = str(tmp_path / 'whole' / f'epoch_{epoch}.pth')
        resumed = weights(train(again))
        assert all(torch.equal(resumed[key], value) for key, value in final.items()), f'resumed after epoch {epoch}'


@pytest.mark.parametrize('neck', [SLICES, MASKS], ids=['slices', 'masks'])
def test_whoever_loads_the_weights_scores_as_the_last_evaluation_did(pictures, tmp_path, neck):
    cfg = division_config(pictures, tmp_path, neck, train_cfg__max_epochs=2)
    last = train(cfg).message_hub.get_scalar('val/retrieval/MAP@R').current()
    cfg.load_from, cfg.experiment_name = str(tmp_path / 'epoch_2.pth'), f'reload {tmp_path.name}'
    cfg.custom_hooks = []
    runner = Runner.from_cfg(cfg)
    assert runner.test()['retrieval/MAP@R'] == pytest.approx(last, rel=1e-6)
    assert runner.model.neck.num_active == 2


def test_learners_of_a_learned_margin_inherit_it_from_their_parent():
    head = head_of(dict(type='MarginLoss', beta_mode='global'))
    betas = [loss.beta for loss in (head.loss_fn, *head.learner_losses)]
    with torch.no_grad():
        head.loss_fn.beta.fill_(0.7)
    head.divide(1, 2)
    assert [beta.item() for beta in betas[:3]] == pytest.approx([0.7] * 3)
    with torch.no_grad():
        head.learner_losses[1].beta.fill_(0.9)
    head.divide(2, 4)
    assert [beta.item() for beta in betas] == pytest.approx([0.7, 0.7, 0.7, 0.9, 0.9])
    assert head.loss_of(3) is head.learner_losses[3] and head.loss_of(None) is head.loss_fn


def test_an_image_that_stays_unreadable_does_not_permute_the_learners(pictures, tmp_path):
    runner = train(division_config(pictures, tmp_path, train_cfg__max_epochs=3))
    hook = next(hook for hook in runner.hooks if type(hook).__name__ == 'DivisionHook')
    known = hook.clusters.clone()
    vectors = torch.nn.functional.one_hot(1 - known, 2).float()
    kept = torch.arange(1, len(known))  # the first image has no row this time
    labels = torch.tensor(runner.train_dataloader.dataset.labels)
    hook.receive_embeddings(
        Embeddings(vectors[kept], labels[kept], kept, 8, features=vectors[kept]), Progress(14, 1000, 7)
    )
    assert torch.equal(hook.clusters[kept], known[kept]) and hook.clusters[0] == -1


def test_iaa_inside_the_learners_makes_candidates(pictures, tmp_path):
    runner = train(division_config(pictures, tmp_path, config=IAA, train_cfg__max_epochs=4))
    assert runner.message_hub.get_scalar('train/iaa_candidates').current() == 18
    assert set(runner.model.head.sources['iaa'].estimator.run_state()['scales']) == {'0 of 2', '1 of 2'}


@pytest.mark.parametrize(
    'change, message',
    [
        (
            dict(sampler=dict(type='PKSampler', batch_size=6, images_per_class=2)),
            'needs ClusterPKSampler, got PKSampler',
        ),
        (dict(hook=dict(cluster_on='pixels')), "cluster_on must be one of \\['features', 'embedding', 'random'\\]"),
        (dict(hook=dict(interval=0)), 'interval must be an integer of at least 1, got 0'),
        (dict(hook=dict(warm_up=5)), 'stages must follow each other'),
        (
            dict(neck=dict(type='LinearEmbedding', in_channels=8, embed_dim=6)),
            'AndConquerEmbedding, got LinearEmbedding',
        ),
        (
            dict(head=dict(type='EmbeddingHead', loss=dict(type='TripletLoss'))),
            'AndConquerHead, got EmbeddingHead',
        ),
    ],
)
def test_what_cannot_work_is_refused(pictures, tmp_path, change, message):
    cfg = division_config(pictures, tmp_path, hook=change.get('hook'))
    if 'sampler' in change:
        cfg.train_dataloader.sampler = change['sampler']
    for part in ('neck', 'head'):
        if part in change:
            cfg.model[part] = change[part]
    with pytest.raises(ValueError, match=message):
        train(cfg)


@HOOKS.register_module()
class WatchUpdates(Hook):
    """For every epoch, whether backbone and neck moved."""

    def __init__(self):
        self.moved = []

    def before_train_epoch(self, runner):
        self.before = weights(runner)

    def after_train_epoch(self, runner):
        moved = {key for key, value in weights(runner).items() if not torch.equal(value, self.before[key])}
        # Running statistics move whether or not the backbone trains.
        self.moved.append(('backbone.blocks.0.weight' in moved, any(key.startswith('neck.learners') for key in moved)))


def moved_of(cfg):
    cfg.custom_hooks.append(dict(type='WatchUpdates'))
    return next(hook.moved for hook in train(cfg).hooks if isinstance(hook, WatchUpdates))


def test_the_backbone_rests_after_each_clustering_and_the_neck_goes_on(pictures, tmp_path):
    # Clusterings at epochs 1 and 3; weight decay would move a backbone whose gradient is zero instead of missing.
    hook = dict(interval=2, freeze_backbone=1)
    moved = moved_of(division_config(pictures, tmp_path, hook=hook, optim_wrapper__optimizer__weight_decay=0.1))
    assert moved == [(True, True), (False, True), (True, True), (False, True), (True, True), (True, True)]


def test_fine_tuning_may_leave_the_backbone_alone(pictures, tmp_path):
    moved = moved_of(division_config(pictures, tmp_path, hook=dict(fine_tune_backbone=False)))
    assert moved == [(True, True)] * 5 + [(False, True)]


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(divide_until=0.5), 'stages begin at whole epochs: .* got 0, 0.5 and None'),
        (dict(divide_until='4'), "stages begin at whole epochs: .* got 0, '4' and None"),
        (dict(divide_until=4, fine_tune_from=float('inf')), 'stages begin at whole epochs: .* got 0, 4 and inf'),
        (dict(divide_until=4, warm_up=0.1), 'stages begin at whole epochs: .* got 0.1, 4 and None'),
        (dict(divide_until=4, interval=1.5), 'interval must be an integer of at least 1, got 1.5'),
        (dict(divide_until=4, interval='2'), "interval must be an integer of at least 1, got '2'"),
        (dict(divide_until=4, seed=0.5), r'seed must be an integer in 0\.\.2\^30-1, got 0.5'),
        (dict(divide_until=4, freeze_backbone=0.5), 'freeze_backbone must be in .* got 0.5'),
        (dict(divide_until=4, trials='3'), "trials must be an integer of at least 1, got '3'"),
        (dict(divide_until=4, restarts=1.5), 'restarts must be an integer of at least 1, got 1.5'),
    ],
)
def test_what_counts_epochs_or_seeds_is_a_whole_number(options, message):
    with pytest.raises(ValueError, match=message):
        HOOKS.build(dict(type='DivisionHook', **options))


def test_stages_that_a_product_made_a_float_are_whole_epochs():
    stages = HOOKS.build(dict(type='DivisionHook', divide_until=0.8 * 10, fine_tune_from=0.9 * 10)).stages
    assert [stages.at(epoch) for epoch in (7, 8, 9)] == ['divide', 'joint', 'fine_tune']


@pytest.mark.parametrize('value', [-1, 2])
def test_a_freeze_that_leaves_the_backbone_no_epoch_is_refused(value):
    with pytest.raises(ValueError, match=rf'freeze_backbone must be in 0\.\.1, .*interval=2, got {value}'):
        HOOKS.build(dict(type='DivisionHook', divide_until=4, freeze_backbone=value))


def test_proxies_of_slices_train_with_their_learner_only(pictures, tmp_path):
    cfg = division_config(pictures, tmp_path, train_cfg__max_epochs=1, hook=dict(warm_up=0))
    cfg.model.head.loss = dict(type='ProxyNCALoss', num_classes=len(list(Path(pictures).iterdir())), embed_dim=6)
    cfg.model.head.update(miner=None, regularizers=None)
    cfg.optim_wrapper.optimizer.weight_decay = 0.1
    cfg.custom_hooks.append(dict(type='WatchProxies'))
    runner = train(cfg)
    watch = next(hook for hook in runner.hooks if isinstance(hook, WatchProxies))
    assert len(watch.moved) == 6 and set(watch.moved) == {(0,), (1,)}
    assert [(learner,) for _, learner, *_ in steps_of(runner)] == watch.moved


@HOOKS.register_module()
class WatchProxies(Hook):
    """For every step, whose proxies moved."""

    def __init__(self):
        self.moved = []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.before = [part.proxies.detach().clone() for part in runner.model.head.loss_fn.slices]

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        tables = [part.proxies for part in runner.model.head.loss_fn.slices]
        pairs = enumerate(zip(self.before, tables, strict=True))
        self.moved.append(tuple(part for part, (old, new) in pairs if not torch.equal(old, new)))


def test_the_merged_embedding_takes_over_what_its_learners_learned():
    head = head_of(dict(type='MarginLoss', beta_mode='global'))
    with torch.no_grad():
        for value, loss in zip((1.0, 0.6, 5.0, 5.0), head.learner_losses, strict=True):
            loss.beta.fill_(value)
    head.join(2)
    assert head.loss_fn.beta.item() == pytest.approx(0.8)


def test_boundaries_are_joined_once_when_the_divide_stage_ends(pictures, tmp_path):
    cfg = division_config(pictures, tmp_path, train_cfg__max_epochs=5)
    cfg.model.head.update(loss=dict(type='MarginLoss', beta_mode='global'), miner=None)
    runner = train(cfg)
    head = runner.model.head
    before = torch.load(tmp_path / 'epoch_4.pth', weights_only=False)['state_dict']
    mean = torch.stack([before[f'head.learner_losses.{learner}.beta'] for learner in range(2)]).mean(0)
    steps = runner.optim_wrapper.optimizer.state[head.loss_fn.beta]['step']
    # Adam moves it by the learning rate a step at most, from the mean on and from fresh moments.
    assert steps == 6 and (head.loss_fn.beta.cpu() - mean).abs() <= 6 * 1.1e-3
    assert (before['head.loss_fn.beta'] - mean).abs() > 6 * 1.1e-3


def test_one_loss_may_serve_all_learners():
    head = head_of(dict(type='MarginLoss', beta_mode='global'), shared_loss=True)
    assert len(head.learner_losses) == 0 and head.loss_of(3) is head.loss_fn


def test_divided_weights_without_their_clusters_are_refused(pictures, tmp_path):
    cfg = division_config(pictures, tmp_path / 'first', train_cfg__max_epochs=2)
    train(cfg)
    cfg.work_dir, cfg.load_from = str(tmp_path / 'second'), str(tmp_path / 'first' / 'epoch_2.pth')
    with pytest.raises(ValueError, match='divided among 2 learners, but their clusters are not known: resume'):
        train(cfg)


def test_a_loss_cut_into_slices_is_refused_in_a_hierarchy(pictures, tmp_path):
    cfg = division_config(pictures, tmp_path, hook=dict(hierarchical=True))
    cfg.model.head.update(loss=dict(type='ProxyNCALoss', num_classes=9, embed_dim=6), miner=None)
    with pytest.raises(ValueError, match='proxies of slices .* not for hierarchical=True'):
        train(cfg)


def test_samples_without_an_index_stop_the_run(pictures, tmp_path):
    cfg = division_config(pictures, tmp_path)
    cfg.custom_hooks.append(dict(type='NoIndices'))
    with pytest.raises(RuntimeError, match='needs the sample_idx of every data sample, and one has none'):
        train(cfg)


@HOOKS.register_module()
class NoIndices(Hook):
    """Take the index from a sample of every batch, before the step begins."""

    priority = 'VERY_HIGH'

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        data_batch['data_samples'][0].set_metainfo(dict(sample_idx=-1))


def test_batches_of_another_cluster_than_the_sampler_says_stop_the_run(pictures, tmp_path):
    cfg = division_config(pictures, tmp_path)
    cfg.custom_hooks.append(dict(type='OtherClusters'))
    with pytest.raises(RuntimeError, match=r'batch 0 of epoch 2 is of cluster \d, but its images are of'):
        train(cfg)


@HOOKS.register_module()
class OtherClusters(Hook):
    """Exchanges the hook's clusters behind the sampler's back."""

    priority = 'HIGH'

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.epoch == 2 and batch_idx == 0:
            division = next(hook for hook in runner.hooks if type(hook).__name__ == 'DivisionHook')
            division.assignment = torch.where(division.assignment < 0, -1, 1 - division.assignment)
