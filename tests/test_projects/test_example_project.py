"""The example project: parts registered from outside the package, trained through tools/train.py."""

import functools
import importlib
import math
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from mmengine.config import Config
from tiny import REPO, tiny_config, train

from mmdml.registry import DATA_SAMPLERS, MODELS, TASK_UTILS
from mmdml.structures import PairBatch, Pairs, Progress, Rows, StepContext, Triplets

PROJECT = os.path.join(REPO, 'projects/example_project')
CONFIG = os.path.join(PROJECT, 'configs/soft-margin_conv4_omniglot.py')
PROXY_CONFIG = os.path.join(PROJECT, 'configs/normalized-softmax_conv4_omniglot.py')
#: file -> registry and name of its part
PARTS = {
    'soft_margin_triplet_loss': (MODELS, 'SoftMarginTripletLoss'),
    'normalized_softmax_loss': (MODELS, 'NormalizedSoftmaxLoss'),
    'class_uniform_sampler': (DATA_SAMPLERS, 'ClassUniformSampler'),
    'random_negative_miner': (TASK_UTILS, 'RandomNegativeMiner'),
    'midpoint_generator': (MODELS, 'MidpointGenerator'),
}


@pytest.fixture(scope='module', autouse=True)
def registered():
    """The project's parts, for this module only: tests that walk the registries must not meet them."""
    sys.path.insert(0, PROJECT)
    for name in PARTS:
        importlib.import_module(f'example_project.{name}')
    yield
    sys.path.remove(PROJECT)
    for registry, name in PARTS.values():
        assert registry.module_dict.pop(name).__module__.startswith('example_project.')
    for name in [name for name in sys.modules if name.partition('.')[0] == 'example_project']:
        del sys.modules[name]


def four_directions() -> PairBatch:
    """Class 0 at 0 and 90 degrees, class 1 at 180 and 270 degrees: distances sqrt(2) between neighbors, 2 across."""
    unit = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]], requires_grad=True)
    return PairBatch.from_embeddings(unit, torch.tensor([0, 0, 1, 1]))


@pytest.mark.parametrize('temperature', [0.1, 1.0])
def test_loss_of_four_directions_by_hand(temperature):
    loss = MODELS.build(dict(type='SoftMarginTripletLoss', temperature=temperature))
    # Every anchor has its positive and its nearest negative at 90 degrees: the softplus of 0.
    assert loss(four_directions()).item() == pytest.approx(temperature * math.log(2), rel=1e-6)


def test_given_triplets_replace_batch_hard_ones():
    loss = MODELS.build(dict(type='SoftMarginTripletLoss', temperature=0.5))
    across = Triplets(*(torch.tensor([index]) for index in (0, 1, 2)))
    expected = 0.5 * math.log(1 + math.exp((math.sqrt(2) - 2) / 0.5))
    pairs = four_directions()
    assert loss(pairs, across).item() == pytest.approx(expected, rel=1e-6)
    (gradient,) = torch.autograd.grad(loss(pairs, across), pairs.similarity)
    assert gradient.nonzero().tolist() == [[0, 1], [0, 2]]
    with pytest.raises(TypeError, match='Triplets, got Pairs'):
        loss(pairs, Pairs(torch.tensor([0]), torch.tensor([1])))


def test_a_batch_without_a_triplet_gives_zero_with_a_gradient():
    unit = torch.eye(3, requires_grad=True)
    loss = MODELS.build(dict(type='SoftMarginTripletLoss'))(PairBatch.from_embeddings(unit, torch.arange(3)))
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(unit.grad, torch.zeros(3, 3))


class LabelledSet:
    """Classes of 1, 5 and 500 images, out of order."""

    labels = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [1, 5, 500]))

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch


def build_sampler(**options):
    options = dict(dataset=LabelledSet(), batch_size=6, images_per_class=3, num_batches=150, seed=0) | options
    return DATA_SAMPLERS.build(dict(type='ClassUniformSampler', **options))


def test_sampler_yields_groups_of_one_class_and_every_class_equally_often():
    sampler = build_sampler()
    groups = np.reshape(list(sampler), (-1, 3))
    labels = LabelledSet.labels[groups]
    assert len(sampler) == groups.size == 900
    assert (labels == labels[:, :1]).all()
    # 300 groups over 3 classes: 100 expected, standard deviation 8.2.
    assert all(60 < number < 140 for number in np.bincount(labels[:, 0]))
    assert all(len(set(group)) == 3 for group, label in zip(groups.tolist(), labels[:, 0], strict=True) if label > 0)


def test_sampler_order_follows_from_seed_and_epoch():
    first, again, other_seed = build_sampler(), build_sampler(), build_sampler(seed=1)
    for sampler in (first, again):
        sampler.set_epoch(4)
    assert sampler.dataset.epoch == 4
    fifth = list(first)
    assert list(again) == fifth
    again.set_epoch(5)
    assert list(again) != fifth
    other_seed.set_epoch(4)
    assert list(other_seed) != fifth
    other_seed.load_run_state(first.run_state())
    assert list(other_seed) == fifth


def test_sampler_asks_for_another_augmentation_at_every_draw():
    draws = [(int(draw), draw.repeat) for draw in build_sampler()]
    assert len({index for index, _ in draws}) < len(draws) == len(set(draws))


def test_sampler_refuses_a_batch_that_cuts_a_group():
    with pytest.raises(ValueError, match='batch_size must be a multiple of images_per_class, got 7 and 3'):
        build_sampler(batch_size=7)


def test_normalized_softmax_by_hand():
    loss = MODELS.build(dict(type='NormalizedSoftmaxLoss', num_classes=3, embed_dim=2, temperature=0.5))
    loss.proxies.data = torch.tensor([[2.0, 0.0], [0.0, 0.5], [-1.0, 0.0]])
    unit = torch.tensor([[1.0, 0.0]], requires_grad=True)
    value = loss(PairBatch.from_embeddings(unit, torch.tensor([0])))
    assert value.item() == pytest.approx(math.log(1 + math.exp(-2) + math.exp(-4)), rel=1e-6)
    value.backward()
    # Of the proxies, only the one that is not in line with the row can turn.
    assert unit.grad.abs().sum() > 0 and (loss.proxies.grad.abs().sum(1) > 0).tolist() == [False, True, False]
    with pytest.raises(ValueError, match='temperature must be positive, got 0'):
        MODELS.build(dict(type='NormalizedSoftmaxLoss', num_classes=3, embed_dim=2, temperature=0))


def test_the_config_of_the_proxy_loss_builds_a_model_that_learns():
    model = MODELS.build(Config.fromfile(PROXY_CONFIG).model)
    assert type(model.head.loss_fn).__name__ == 'NormalizedSoftmaxLoss' and model.head.loss_fn.proxies.shape == (
        964,
        128,
    )
    raw = torch.randn(4, 128, generator=torch.Generator().manual_seed(0)).requires_grad_()
    model.head.loss(raw, torch.tensor([0, 0, 5, 963]), None, model.neck)['loss'].backward()
    assert raw.grad.abs().sum() > 0


def test_random_negatives_are_drawn_evenly_from_those_within_reach():
    angle = torch.deg2rad(torch.tensor([0.0, 10.0, 40.0, 60.0, 170.0]))
    rows = Rows.of_batch(torch.stack([angle.cos(), angle.sin()], 1), torch.tensor([0, 0, 1, 1, 2]))
    random = torch.Generator().manual_seed(0)
    miner = TASK_UTILS.build(dict(type='RandomNegativeMiner', farthest=1.2))
    drawn = [miner(PairBatch(rows, rows, random=random)) for _ in range(400)]
    assert all(mined.anchor.tolist() == [0, 1, 2, 3] and mined.positive.tolist() == [1, 0, 3, 2] for mined in drawn)
    # 170 degrees is beyond 1.2 of all; each of the two others is drawn half of the time, 200 with a deviation of 10.
    negatives = torch.stack([mined.negative for mined in drawn])
    for column, within in enumerate(([2, 3], [2, 3], [0, 1], [0, 1])):
        assert all(160 < int((negatives[:, column] == row).sum()) < 240 for row in within)
    state = random.get_state()
    again = [miner(PairBatch(rows, rows, random=torch.Generator().manual_seed(7))) for _ in range(2)]
    assert torch.equal(again[0].negative, again[1].negative) and torch.equal(state, random.get_state())
    alone = miner(PairBatch.from_embeddings(torch.eye(3), torch.arange(3)))
    assert [len(part) for part in alone] == [0, 0, 0]


def test_midpoints_lie_between_an_anchor_and_the_nearest_row_of_its_class():
    raw = torch.tensor([[0.0, 0.0], [4.0, 0.0], [1.0, 1.0], [9.0, 9.0]], requires_grad=True)
    anchors = Rows.of_batch(raw, torch.tensor([0, 0, 0, 1]))
    generator = MODELS.build(dict(type='MidpointGenerator', start=1))
    assert generator(anchors, StepContext(Progress(4, 10, 5))) is None
    rows = generator(anchors, StepContext(Progress(5, 10, 5)))
    assert rows.embeddings.tolist() == [[0.5, 0.5], [2.5, 0.5], [0.5, 0.5]]
    assert rows.labels.tolist() == [0, 0, 0] and rows.views.tolist() == [[0, 2], [1, 2], [2, 0]]
    pairs = PairBatch(anchors, Rows.cat([anchors, rows]))
    # The first midpoint is no positive of its parents 0 and 2, but one of 1, and a negative of 3.
    assert pairs.positive_mask[:, 4].tolist() == [False, True, False, False] and pairs.negative_mask[3, 4]
    rows.embeddings.sum().backward()
    assert raw.grad[3].abs().sum() == 0 and (raw.grad[:3].abs().sum(1) > 0).all()


OPTIONS = {
    'random_negative_miner': {'model.head.miner': dict(type='RandomNegativeMiner')},
    'midpoint_generator': {'model.head.sources': dict(midpoints=dict(type='MidpointGenerator'))},
    'soft_margin_triplet_loss': {'model.head.loss': dict(type='SoftMarginTripletLoss')},
    'normalized_softmax_loss': {'model.head.loss': dict(type='NormalizedSoftmaxLoss', num_classes=8, embed_dim=6)},
    'class_uniform_sampler': {
        'train_dataloader.sampler': dict(type='ClassUniformSampler', batch_size=6, images_per_class=2, num_batches=4)
    },
}


@pytest.mark.parametrize('file', PARTS)
def test_each_part_trains_from_a_folder_that_holds_its_one_file(file, pictures, tmp_path, monkeypatch):
    registry, name = PARTS[file]
    part = registry.module_dict.pop(name)
    alone = tmp_path / 'alone'
    alone.mkdir()
    shutil.copy(os.path.join(PROJECT, 'example_project', f'{file}.py'), alone)
    monkeypatch.syspath_prepend(alone)
    try:
        cfg = tiny_config(pictures, tmp_path / 'run', config='multi_similarity/ms_conv4_omniglot.py')
        for key, value in OPTIONS[file].items():
            *parents, last = key.split('.')
            functools.reduce(getattr, parents, cfg)[last] = value
        cfg.train_cfg.max_epochs = 1
        cfg.custom_imports = dict(imports=[file], allow_failed_imports=False)
        runner = train(Config.fromstring(cfg.dump(), '.py'))
        assert runner.iter == len(runner.train_dataloader) >= 4
        head = runner.model.head
        used = dict(
            class_uniform_sampler=runner.train_dataloader.sampler,
            random_negative_miner=head.miner,
            midpoint_generator=next(iter(head.sources.values()), None),
        ).get(file, head.loss_fn)
        assert type(used).__module__ == file and type(used).__name__ == name
    finally:
        registry.module_dict[name] = part
        sys.modules.pop(file, None)


@pytest.mark.slow
def test_the_project_trains_through_tools_train_with_its_own_loss_and_sampler(tmp_path):
    command = [
        sys.executable,
        os.path.join(REPO, 'tools/train.py'),
        CONFIG,
        '--no-validate',
        f'--work-dir={tmp_path}',
        '--cfg-options',
        'train_cfg.max_epochs=2',
        'train_dataloader.sampler.num_batches=2',
        'train_dataloader.num_workers=0',
        'train_dataloader.persistent_workers=False',
        'model.backbone.channels=8',
        'model.neck.in_channels=8',
        'default_hooks.logger.interval=1',
    ]
    # Away from the checkout: the config is found through mmdml::, the parts through PYTHONPATH.
    search_path = os.pathsep.join([PROJECT, REPO])
    run = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, 'PYTHONPATH': search_path}, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-3000:]
    (log,) = tmp_path.glob('*/*.log')
    text = log.read_text()
    assert 'SoftMarginTripletLoss: 128 triplets in its first batch' in text
    assert re.findall(r'ClassUniformSampler: epoch (\d+) draws \d+ of 964 classes', text) == ['1', '2']
    losses = [float(value) for value in re.findall(r'Epoch\(train\) .*\bloss: ([\d.]+)', text)]
    assert len(losses) == 4
    assert all(0 < loss < 2 for loss in losses)
    assert 'Done: 4 updates' in text
