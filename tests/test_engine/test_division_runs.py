"""What a division does to a run: what only a training run can show."""

import copy
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.hooks import Hook
from mmengine.model import BaseModule
from tiny import tiny_config, train, weights
from torch import nn
from torch.nn.functional import normalize, one_hot

from mmdml.engine.division import kmeans_with_classes, overlap_share
from mmdml.engine.sweep import sweep
from mmdml.registry import HOOKS, MODELS
from mmdml.structures import Embeddings, Progress

PLAIN, MARGIN = 'multi_similarity/ms_conv4_omniglot.py', 'divide_and_conquer/dc-k1_margin_conv4_omniglot.py'
SLICES, MASKS, FIXED = dict(), dict(division='masks'), dict(division='masks', learned=False)
LEARNED_MARGIN = dict(type='MarginLoss', beta_mode='global')
CYCLE = torch.tensor([1, 2, 0])


def of_type(runner, name):
    """The hooks of a class."""
    return [hook for hook in runner.hooks if type(hook).__name__ == name]


def division_of(runner):
    (hook,) = of_type(runner, 'DivisionHook')
    return hook


def slices_of(model):
    """Copies of the parameters of every slice; nothing for masks."""
    layers = getattr(model.neck.learners, 'slices', ())
    return [torch.cat([parameter.detach().flatten() for parameter in layer.parameters()]) for layer in layers]


@HOOKS.register_module()
class DivisionDiary(Hook):
    """Every step and every epoch as it was trained."""

    priority = 'LOWEST'

    def __init__(self):
        self.steps, self.clusters, self.assignments, self.active = [], {}, {}, {}

    def before_train_epoch(self, runner):
        division = division_of(runner)
        self.active[runner.epoch] = runner.model.neck.num_active
        if division.clusters is not None:
            self.clusters[runner.epoch] = division.clusters.clone()
            self.assignments[runner.epoch] = division.assignment.clone()

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.before = slices_of(runner.model)

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        pairs = enumerate(zip(self.before, slices_of(runner.model), strict=True))
        self.steps.append(
            dict(
                epoch=runner.epoch,
                learner=runner.model.step.learner_index,
                indices=[sample.sample_idx for sample in data_batch['data_samples']],
                labels={int(sample.gt_label) for sample in data_batch['data_samples']},
                moved=[part for part, (old, new) in pairs if not torch.equal(old, new)],
                loss=outputs['loss'].item(),
            )
        )


@HOOKS.register_module()
class RenameClusters(Hook):
    """Give the clusters other names at the start of an epoch, as an unlucky k-means would."""

    priority = 'VERY_HIGH'

    def __init__(self, epoch, names):
        self.epoch, self.names = epoch, torch.tensor(names)

    def before_train_epoch(self, runner):
        if runner.epoch == self.epoch:
            division = division_of(runner)
            division.load_run_state({**division.run_state(), 'clusters': self.names[division.clusters]})


@HOOKS.register_module()
class Snapshot(Hook):
    """Parameters and the optimizer's state by name at the start of every epoch."""

    def __init__(self):
        self.values, self.state = [], []

    def before_train_epoch(self, runner):
        named = dict(runner.model.named_parameters())
        state = runner.optim_wrapper.optimizer.state
        self.values.append({name: parameter.detach().clone() for name, parameter in named.items()})
        self.state.append({name: copy.deepcopy(state[part]) for name, part in named.items() if part in state})


@MODELS.register_module()
class CentredPixels(BaseModule):
    """A linear map of pixels around gray: a picture and its negative are as far apart as can be."""

    def __init__(self, channels):
        super().__init__()
        self.linear = nn.Linear(28 * 28, channels, bias=False)

    def forward(self, inputs):
        return self.linear((inputs - 0.5).flatten(1))


@HOOKS.register_module()
class SweepAgain(Hook):
    """What a sweep sees right after a division."""

    priority = 'LOWEST'

    def __init__(self):
        self.seen = {}

    def before_train_epoch(self, runner):
        dataset = runner.train_dataloader.dataset.with_pipeline(runner.cfg.test_dataloader.dataset.pipeline)
        self.seen[runner.epoch] = sweep(runner.model, dataset, 7, with_features=True)


def config(
    pictures, work_dir, learners=2, neck=SLICES, hook=None, base=PLAIN, epochs=2, saved_every=100, hooks=(), **options
):
    """A divided run: divide stage up to ``epochs``, clusters anew in every epoch, unless ``hook`` says otherwise."""
    division = dict(type='DivisionHook', divide_until=epochs, interval=1, seed=5)
    cfg = tiny_config(
        pictures,
        work_dir,
        config=base,
        train_cfg__max_epochs=epochs,
        default_hooks__checkpoint__max_keep_ckpts=-1,
        default_hooks__checkpoint__interval=saved_every,
        log_level='INFO',
        **options,
    )
    cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    cfg.custom_hooks = [{**division, **(hook or {})}, dict(type='DivisionDiary'), *hooks]
    dim = max(6, learners)
    cfg.model.neck = dict(type='DivideAndConquerEmbedding', in_channels=8, embed_dim=dim, num_learners=learners, **neck)
    cfg.model.head.update(
        type='DivideAndConquerHead', regularizers=dict(diversity=dict(type='MaskDiversity', weight=0.01))
    )
    cfg.train_dataloader.sampler = dict(
        type='ClusterPKSampler', batch_size=6, images_per_class=2, cluster_order='round_robin'
    )
    return cfg


def run(cfg):
    """Train; the runner and its diary."""
    runner = train(cfg)
    (diary,) = of_type(runner, 'DivisionDiary')
    return runner, diary


def log_of(cfg):
    (log,) = Path(cfg.work_dir).glob('*/*.log')
    return log.read_text()


def halves(root, classes):
    """Gray pictures, one for each digit of a class: 0 is bright above and 1 below; a class has a blob of its own.

    Returns:
        Their folder and the digits.
    """
    random = np.random.default_rng(0)
    for number, (name, kinds) in enumerate(classes.items()):
        folder = root / name
        folder.mkdir(parents=True)
        for picture, kind in enumerate(kinds):
            image = random.integers(0, 20, (28, 28), dtype=np.uint8)
            image[14 * int(kind) : 14 * int(kind) + 14] += 235
            cv2.circle(image, (4 + 6 * (number % 4), 8 + 10 * (number // 4)), 2, 128, -1)
            cv2.imwrite(str(folder / f'{picture}.png'), image)
    return str(root), torch.tensor([int(kind) for kinds in classes.values() for kind in kinds])


def halves_config(tmp_path, classes, **options):
    """A run on :func:`halves` whose two clusters are the digits, and the digits."""
    data, kind = halves(tmp_path / 'data', classes)
    cfg = config(data, tmp_path / 'run', **options)
    cfg.model.backbone = dict(type='CentredPixels', channels=8)
    return cfg, kind


def same_partition(clusters, expected):
    """Whether two assignments differ in the names of the clusters at most."""
    pairs = set(zip(clusters.tolist(), expected.tolist(), strict=True))
    return len(pairs) == len({old for old, _ in pairs}) == len({new for _, new in pairs})


def lone(clusters, labels):
    """Whether an image is alone of its class in its cluster."""
    keys = list(zip(clusters.tolist(), labels, strict=True))
    return torch.tensor([keys.count(key) == 1 for key in keys])


# Matching


@pytest.mark.parametrize('matching, share', [('overlap', '100.0%'), ('released', '0.0%')])
def test_clusters_that_come_back_under_other_names_keep_their_learners_unless_matched_as_released(
    pictures, tmp_path, matching, share
):
    # Nothing learns, so that both divisions find the same clusters; a 3-cycle is not its own inverse.
    cfg = config(
        pictures,
        tmp_path,
        learners=3,
        hook=dict(matching=matching),
        hooks=[dict(type='RenameClusters', epoch=1, names=CYCLE.tolist())],
        model__freeze_bn_stats=True,
        optim_wrapper__optimizer__lr=0.0,
    )
    _, diary = run(cfg)
    assert diary.clusters[0].unique().tolist() == [0, 1, 2]
    expected = CYCLE if matching == 'overlap' else CYCLE.argsort()
    assert torch.equal(diary.clusters[1], expected[diary.clusters[0]])
    assert f'{share} of the images keep their learner' in log_of(cfg)
    for step in diary.steps:
        assert set(diary.assignments[step['epoch']][step['indices']].tolist()) == {step['learner']}


@pytest.fixture(scope='module')
def eight(pictures, tmp_path_factory):
    """A run with 8 learners whose hook may be fed by hand; ``(36,)`` true groups and their embeddings."""
    runner, _ = run(config(pictures, tmp_path_factory.mktemp('eight'), learners=8, epochs=1))
    groups = torch.arange(36) % 8
    vectors = one_hot(groups, 8).float()
    labels = (torch.arange(36) // 16).clamp(max=1)  # two classes of two images or more in every group
    return runner, groups, Embeddings(vectors, labels, torch.arange(36), 8, features=vectors)


def divide(runner, embeddings, old=None, **options):
    """``(N,)`` clusters that a new hook finds for embeddings, after ``old`` ones if given."""
    hook = HOOKS.build(dict(type='DivisionHook', divide_until=9, interval=1, seed=5, **options))
    # Divided weights come with their clusters, as in a run that goes on.
    any_clusters = torch.zeros(len(runner.train_dataloader.dataset), dtype=torch.int64)
    hook.load_run_state(dict(clusters=any_clusters, assignment=any_clusters))
    hook.before_train(runner)
    hook.load_run_state({} if old is None else dict(clusters=old, assignment=old))
    hook.receive_embeddings(embeddings, Progress(6, 60, 6))
    return hook.clusters


@pytest.mark.parametrize(
    'names',
    [torch.tensor([1, 2, 0, 3, 4, 5, 6, 7]), torch.randperm(8, generator=torch.Generator().manual_seed(3))],
    ids=['3-cycle', 'random'],
)
def test_the_hook_undoes_any_renaming_of_eight_clusters_exactly(eight, names):
    runner, groups, embeddings = eight
    assert not torch.equal(names, names.argsort())
    first = divide(runner, embeddings)
    assert same_partition(first, groups)
    old = names[first]
    assert torch.equal(divide(runner, embeddings, old), old)
    assert torch.equal(divide(runner, embeddings, old, matching='released'), names.argsort()[first])


def test_a_cluster_whose_images_were_all_unassigned_gets_the_name_that_is_left(eight):
    runner, _, embeddings = eight
    names = torch.randperm(8, generator=torch.Generator().manual_seed(3))
    whole = names[divide(runner, embeddings)]
    for missing in (0, 5):
        assert torch.equal(divide(runner, embeddings, whole.masked_fill(whole == missing, -1)), whole)


def test_clusters_that_k_means_leaves_empty_are_passed_over_and_filled_by_the_next_division(eight):
    runner, groups, embeddings = eight
    halves = one_hot(groups % 2, 8).float()
    collapsed = divide(runner, Embeddings(halves, embeddings.labels, embeddings.indices, 8, features=halves))
    assert same_partition(collapsed, groups % 2)
    sampler = runner.train_dataloader.sampler
    batches = torch.from_numpy(sampler.global_order(0)).view(-1, 6)
    assert len(batches) == 6 and all(len(collapsed[batch].unique()) == 1 for batch in batches)
    again = divide(runner, embeddings, collapsed)
    assert same_partition(again, groups)
    # Two of the eight groups go on where the halves they belonged to were.
    assert overlap_share(again, collapsed) == pytest.approx(10 / 36)


# What is clustered, and lone images


@pytest.mark.parametrize('cluster_on', ['features', 'embedding'])
def test_the_first_division_clusters_what_it_was_told_to(pictures, tmp_path, cluster_on):
    cfg = config(
        pictures, tmp_path, learners=3, hook=dict(cluster_on=cluster_on), epochs=1, hooks=[dict(type='SweepAgain')]
    )
    runner, diary = run(cfg)
    seen = of_type(runner, 'SweepAgain')[0].seen[0]
    found = {
        name: kmeans_with_classes(normalize(vectors), seen.labels, 3, seed=5)[0]
        for name, vectors in (('features', seen.features), ('embedding', seen.raw))
    }
    assert not same_partition(found['features'], found['embedding'])
    assert same_partition(diary.clusters[0], found[cluster_on])


def test_clusters_of_the_embedding_are_those_of_the_merged_embedding_in_which_slices_have_equal_votes(
    pictures, tmp_path
):
    runner, _ = run(config(pictures, tmp_path, epochs=1))
    assert runner.model.neck.num_active == 2
    # A long first slice that turns a little with the parity of the image, a short second one that turns far.
    number = torch.arange(36)
    parity, half, labels = number % 2, number // 18, number // 2 % 2
    angle = torch.stack([0.3 * parity, torch.pi / 2 * half], 1)
    slices = torch.stack([angle.cos(), angle.sin(), torch.zeros(36, 2)], 2) * torch.tensor([[100.0], [1.0]])
    raw = slices.flatten(1)
    assert same_partition(kmeans_with_classes(normalize(raw), labels, 2)[0], parity)
    found = divide(runner, Embeddings(raw, labels, number, 8), cluster_on='embedding')
    assert same_partition(found, half)


def test_random_clusters_stay_what_they_are_whatever_the_embeddings_become(pictures, tmp_path):
    runner, diary = run(config(pictures, tmp_path, hook=dict(cluster_on='random'), epochs=1))
    number, labels = torch.arange(36), torch.arange(36) // 6
    found = [divide(runner, Embeddings(torch.randn(36, 8), labels, number, 6), cluster_on='random') for _ in 'ab']
    assert torch.equal(*found) and same_partition(found[0], diary.clusters[0])
    assert len({tuple(found[0][labels == label].tolist()) for label in range(6)}) > 1


def test_lone_images_are_left_out_or_move_to_company(tmp_path):
    classes = dict(a='00001', b='0000', c='11110', d='1111')
    diaries, logs = {}, {}
    for option in ('drop', 'move'):
        cfg, _ = halves_config(tmp_path / option, classes, hook=dict(lone_images=option), epochs=1)
        runner, diaries[option] = run(cfg)
        logs[option] = log_of(cfg)
    clusters = diaries['drop'].clusters[0]
    labels = runner.train_dataloader.dataset.labels
    alone = lone(clusters, labels)
    assert alone.nonzero().flatten().tolist() == [4, 13]
    assert torch.equal(diaries['move'].clusters[0], clusters)
    kept, moved = (diaries[option].assignments[0] for option in ('drop', 'move'))
    assert torch.equal(kept, clusters.masked_fill(alone, -1))
    assert torch.equal(moved[~alone], clusters[~alone])
    assert torch.equal(moved[alone], 1 - clusters[alone]) and not lone(moved, labels).any()
    share = f'{alone.float().mean():.1%}'
    assert f'{share} lone images, {share} left out' in logs['drop']
    assert f'{share} lone images, 0.0% left out' in logs['move']
    left_out = set(alone.nonzero().flatten().tolist())
    assert not left_out & {index for step in diaries['drop'].steps for index in step['indices']}


# Parents and children


def test_a_doubling_copies_masks_and_learned_margins_to_children_and_resets_the_optimizer_for_these_alone(
    pictures, tmp_path
):
    snapshots = [dict(type='Snapshot', priority=priority) for priority in ('VERY_HIGH', 'LOWEST')]
    cfg = config(
        pictures,
        tmp_path,
        learners=4,
        neck=MASKS,
        hook=dict(hierarchical=True),
        epochs=4,
        hooks=snapshots,
        optim_wrapper__paramwise_cfg=dict(custom_keys=dict(masks=dict(lr_mult=100))),
    )
    cfg.model.head.loss = LEARNED_MARGIN
    runner, diary = run(cfg)
    assert list(diary.active.values()) == [1, 2, 4, 4]
    before, after = of_type(runner, 'Snapshot')
    betas = [f'head.learner_losses.{learner}.beta' for learner in range(4)]

    first = before.values[1]['head.loss_fn.beta']
    assert first != 1.2 and all(torch.equal(after.values[1][name], first) for name in betas[:2])

    old, new = before.values[2], after.values[2]
    assert not torch.equal(old[betas[0]], old[betas[1]])
    assert not torch.equal(old['neck.learners.masks'][0], old['neck.learners.masks'][1])
    for child in range(4):
        assert torch.equal(new[betas[child]], old[betas[child // 2]])
        assert torch.equal(new['neck.learners.masks'][child], old['neck.learners.masks'][child // 2])

    copied = {'neck.learners.masks', *betas}
    assert copied & set(before.state[2]) == {'neck.learners.masks', *betas[:2]}
    assert not copied & set(after.state[2])
    for epoch in (1, 2, 3):  # in epoch 3 clusters are made anew, but no learner is
        forgotten = copied if epoch < 3 else set()
        kept = {name: value for name, value in before.state[epoch].items() if name not in forgotten}
        assert kept.keys() == after.state[epoch].keys() and 'backbone.blocks.0.weight' in kept
        for name, state in kept.items():
            assert all(torch.equal(value, after.state[epoch][name][key]) for key, value in state.items()), name
    assert before.state[3]['neck.learners.masks']['step'] == 6  # the steps of epoch 2 alone


# Resuming


@pytest.mark.parametrize(
    'options',
    [
        pytest.param((dict(learners=3), [1, 3, 5]), id='slices'),
        # A hierarchy has one learner at first, and nothing to cluster.
        pytest.param(
            (dict(neck=MASKS, hook=dict(hierarchical=True, lone_images='move')), [3, 5]), id='hierarchy of masks'
        ),
    ],
)
def test_a_run_resumed_in_any_stage_takes_the_same_steps_and_divides_only_when_it_is_time(pictures, tmp_path, options):
    # Warm-up 0, divide 1-3, joint 4-5, fine-tune 6.
    options, moments = options
    stages = dict(warm_up=1, divide_until=4, fine_tune_from=6, interval=2)
    options = {**options, 'hook': {**options.get('hook', {}), **stages}}
    cfg = config(pictures, tmp_path / 'whole', epochs=7, saved_every=1, **options)
    cfg.model.head.loss = LEARNED_MARGIN
    whole, diary = run(cfg)
    final = weights(whole)
    assert log_of(cfg).count('Division into') == log_of(cfg).count('Swept') == len(moments)
    assert {step['learner'] for step in diary.steps if step['epoch'] >= 4} == {None}
    for epoch in (1, 2, 4, 6):
        divisions = sum(moment >= epoch for moment in moments)
        again = copy.deepcopy(cfg)
        again.work_dir, again.resume = str(tmp_path / f'from_{epoch}'), True
        again.load_from = str(tmp_path / 'whole' / f'epoch_{epoch}.pth')
        again.default_hooks.checkpoint.interval = 100
        resumed, resumed_diary = run(again)
        log = log_of(again)
        assert log.count('Division into') == log.count('Swept') == divisions, f'resumed after epoch {epoch}'
        assert resumed_diary.steps == diary.steps[6 * epoch :]
        assert all(torch.equal(clusters, diary.clusters[key]) for key, clusters in resumed_diary.clusters.items())
        assert all(torch.equal(value, final[key]) for key, value in weights(resumed).items())


# One learner


@pytest.fixture(scope='module')
def undivided(pictures, tmp_path_factory):
    """Losses and weights of the plain layer and head under the same sampler; the miner draws random numbers."""

    @HOOKS.register_module(force=True)
    class LossDiary(Hook):
        def __init__(self):
            self.losses = []

        def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
            self.losses.append(outputs['loss'].item())

    cfg = tiny_config(pictures, tmp_path_factory.mktemp('undivided'), MARGIN, train_cfg__max_epochs=4)
    assert (cfg.model.neck.type, cfg.model.head.type) == ('LinearEmbedding', 'EmbeddingHead')
    cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    cfg.custom_hooks = [dict(type='LossDiary')]
    runner = train(cfg)
    return of_type(runner, 'LossDiary')[0].losses, weights(runner)


@pytest.mark.parametrize('neck', [SLICES, MASKS, FIXED], ids=['slices', 'masks', 'fixed masks'])
def test_a_run_with_one_learner_is_bit_equal_to_the_plain_layer_and_head(pictures, tmp_path, undivided, neck):
    stages = dict(warm_up=1, divide_until=2, fine_tune_from=3)
    cfg = config(pictures, tmp_path, learners=1, neck=neck, hook=stages, base=MARGIN, epochs=4)
    runner, diary = run(cfg)
    losses, expected = undivided
    assert [step['loss'] for step in diary.steps] == losses and len(set(losses)) > 20
    found = weights(runner)
    layer = 'neck.learners.slices.0' if neck is SLICES else 'neck.learners.layer'
    for name, value in expected.items():
        assert torch.equal(found[name.replace('neck.linear', layer)], value), name
    # A single cluster needs no clustering.
    assert not diary.clusters and 'Swept' not in log_of(cfg)


# Toy data


def test_two_super_clusters_are_found_kept_apart_in_batches_and_kept_by_their_learners(tmp_path):
    classes = {f'{side}{number}': side * 4 for side in '01' for number in range(4)}
    cfg, kind = halves_config(tmp_path, classes, epochs=4)
    _, diary = run(cfg)
    assert len(diary.steps) == 4 * (32 // 6)
    assert all(same_partition(clusters, kind) for clusters in diary.clusters.values())
    assert all(torch.equal(clusters, diary.clusters[0]) for clusters in diary.clusters.values())
    assert log_of(cfg).count('100.0% of the images keep their learner') == 3
    for step in diary.steps:
        assert len(set(kind[step['indices']].tolist())) == 1
        assert step['learner'] == int(diary.clusters[0][step['indices'][0]])
        assert len(step['labels']) == 3 and len(set(step['indices'])) == 6
    assert {step['learner'] for step in diary.steps} == {0, 1}


# Edge cases


@pytest.mark.parametrize(
    'classes, small',
    [
        pytest.param(dict(a='0000', b='0000', c='0000', d='1111'), 1, id='one class, fewer images than a batch'),
        pytest.param(dict(a='0000', b='0000', c='0000', d='1111', e='1111'), 2, id='fewer classes than a batch takes'),
        pytest.param(dict(a='0000', b='0000', c='0000', d='11', e='11'), 2, id='fewer images than a batch'),
    ],
)
def test_a_small_cluster_still_yields_full_batches_and_never_ends_the_epoch(tmp_path, classes, small):
    cfg, kind = halves_config(tmp_path, classes, hook=dict(interval=100), epochs=3)
    runner, diary = run(cfg)
    assert same_partition(diary.clusters[0], kind)
    assert len(diary.steps) == 3 * (len(kind) // 6)
    drawn = [step for step in diary.steps if set(kind[step['indices']].tolist()) == {1}]
    assert drawn and len(drawn) < len(diary.steps)
    for step in drawn:
        assert len(step['indices']) == 6 and len(step['labels']) == small
        assert len(set(step['indices'])) == min(6, int(kind.sum()))
    assert all(np.isfinite(step['loss']) for step in diary.steps)
    assert all(value.isfinite().all() for value in weights(runner).values())


@pytest.mark.parametrize('lone_images', ['drop', 'move'])
def test_a_cluster_of_nothing_but_lone_images_is_never_drawn_and_its_learner_stays(tmp_path, lone_images):
    classes = dict(a='00001', b='00001', c='00001', d='0000')
    cfg, kind = halves_config(tmp_path, classes, hook=dict(lone_images=lone_images), epochs=1)
    _, diary = run(cfg)
    assert same_partition(diary.clusters[0], kind)
    large = int(diary.clusters[0][0])
    assert len(diary.steps) == 3
    assert {step['learner'] for step in diary.steps} == {large} and all(s['moved'] == [large] for s in diary.steps)
    expected = torch.full_like(kind, large)
    assert torch.equal(diary.assignments[0], expected if lone_images == 'move' else expected.masked_fill(kind == 1, -1))
    assert f'15.8% lone images, {0 if lone_images == "move" else 15.8:.1f}% left out' in log_of(cfg)


@pytest.mark.parametrize('hierarchical', [False, True])
def test_learners_that_do_not_divide_the_embedding_train_slices_of_unequal_width(pictures, tmp_path, hierarchical):
    hook = dict(hierarchical=hierarchical)
    runner, diary = run(config(pictures, tmp_path, learners=4, hook=hook, epochs=4))
    assert runner.model.neck.learners.partition.sizes == (2, 2, 1, 1)
    assert list(diary.active.values()) == ([1, 2, 4, 4] if hierarchical else [4] * 4)
    assert {step['learner'] for step in diary.steps if step['epoch'] > 1} == {0, 1, 2, 3}
    for step in diary.steps:
        active = diary.active[step['epoch']]
        each = 4 // active
        first = 0 if active == 1 else each * step['learner']
        assert step['moved'] == list(range(first, first + each))


def test_more_clusters_than_images_are_an_error(tmp_path):
    cfg, _ = halves_config(tmp_path, dict(a='00', b='11', c='11'), learners=8)
    with pytest.raises(ValueError, match=r'num_clusters must be 1\.\.6, the number of vectors, got 8'):
        run(cfg)


def test_an_interval_beyond_the_run_divides_once_at_its_start(pictures, tmp_path):
    cfg = config(pictures, tmp_path, hook=dict(interval=100))
    _, diary = run(cfg)
    assert list(diary.active.values()) == [2, 2]
    assert log_of(cfg).count('Division into') == log_of(cfg).count('Swept') == 1
    assert torch.equal(diary.clusters[0], diary.clusters[1])


def test_a_hierarchy_with_an_interval_beyond_the_run_keeps_one_learner_and_clusters_nothing(pictures, tmp_path):
    cfg = config(pictures, tmp_path, hook=dict(interval=100, hierarchical=True))
    _, diary = run(cfg)
    assert list(diary.active.values()) == [1, 1] and not diary.clusters
    assert 'Division into' not in log_of(cfg) and 'Swept' not in log_of(cfg)


@pytest.mark.parametrize(
    'stages, expected',
    [
        pytest.param(dict(divide_until=0), ['joint', 'joint'], id='never divided'),
        pytest.param(dict(divide_until=1, fine_tune_from=2), ['divide', 'joint'], id='never fine-tuned'),
        pytest.param(dict(divide_until=0, fine_tune_from=0), ['fine_tune'] * 2, id='only fine-tuned'),
        pytest.param(dict(divide_until=1, fine_tune_from=1), ['divide', 'fine_tune'], id='never joint'),
        pytest.param(dict(divide_until=9), ['divide'] * 2, id='divided to the end'),
        pytest.param(dict(warm_up=2, divide_until=3), ['warm_up'] * 2, id='warm-up beyond the run'),
    ],
)
def test_stages_at_the_ends_of_a_run(pictures, tmp_path, stages, expected):
    _, diary = run(config(pictures, tmp_path, hook=stages))
    assert len(diary.steps) == 12
    for epoch, stage in enumerate(expected):
        steps = [step for step in diary.steps if step['epoch'] == epoch]
        learners = {step['learner'] for step in steps}
        assert learners == ({0, 1} if stage == 'divide' else {None})
        # Batches of one cluster in the divide and joint stage.
        if stage in ('divide', 'joint'):
            drawn = [diary.assignments[epoch][step['indices']].unique() for step in steps]
            assert all(len(clusters) == 1 for clusters in drawn)
        assert (epoch in diary.clusters) == (stage in ('divide', 'joint') or 'divide' in expected[:epoch])
