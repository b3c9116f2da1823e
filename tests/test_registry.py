"""Every registered part and every config, without naming them: a new one is tested by being there."""

import functools
import inspect
import subprocess
import sys
from pathlib import Path

import mmengine.registry
import pytest
import torch
from config_checks import assert_learns, assert_parts_exist_and_agree, without_pretrained_weights
from mmengine.config import Config
from mmengine.registry import Registry
from tiny import REPO
from torch.nn.functional import normalize

import mmdml.datasets
import mmdml.engine
import mmdml.evaluation.metrics
import mmdml.models  # noqa: F401
from mmdml import registry
from mmdml.models.losses.base import PairLoss
from mmdml.models.poolings import GlobalPooling
from mmdml.structures import PairBatch, Pairs, Rows, Triplets

REGISTRIES = [value for value in vars(registry).values() if isinstance(value, registry.Registry)]
PARTS = sorted(
    {
        part
        for group in REGISTRIES
        for part in group.module_dict.values()
        if part.__module__.startswith('mmdml.') and inspect.isclass(part)
    },
    key=lambda part: part.__name__,
)
LOSSES = [part for part in PARTS if issubclass(part, PairLoss)]
# It compares sets of neighbors among the candidates, refuses mined tuples (tested in its own file), and takes no
# gradient through the similarities of anchors with candidates.
OVER_SINGLE_PAIRS = [part for part in LOSSES if part.__name__ != 'ContextualLoss']
MINERS = [
    part for part in registry.TASK_UTILS.module_dict.values() if part.__module__.startswith('mmdml.models.miners')
]
POOLINGS = [part for part in PARTS if issubclass(part, GlobalPooling)]
CONFIGS = sorted(path for path in Path(REPO, 'configs').rglob('*.py') if '_base_' not in str(path))


@functools.cache
def read(path):
    return Config.fromfile(str(path))


def pair_batch(dtype=torch.float32):
    """Six anchors of three classes, their six copies among the candidates."""
    random = torch.Generator().manual_seed(0)
    raw = torch.randn(12, 5, generator=random, dtype=dtype).requires_grad_()
    unit = normalize(raw, dim=1)
    labels, views = torch.tensor([0, 0, 1, 1, 2, 2]), torch.arange(6)
    return raw, PairBatch(Rows(unit[:6], labels, views), Rows(unit, labels.repeat(2), views.repeat(2)))


def test_something_was_found():
    assert len(PARTS) > 20 and len(LOSSES) >= 3 and len(MINERS) >= 2 and len(POOLINGS) == 4 and len(CONFIGS) >= 9


@pytest.mark.parametrize('part', PARTS, ids=lambda part: part.__name__)
def test_every_part_is_documented_with_a_config_that_names_it(part):
    text = inspect.getdoc(part)
    assert text and ('Config::' in text or 'Example' in text)
    if not part.__name__.endswith('Dataset'):
        assert f"'{part.__name__}'" in text


@pytest.mark.parametrize('part', PARTS, ids=lambda part: part.__name__)
def test_every_part_is_exported_by_its_package(part):
    package = __import__('.'.join(part.__module__.split('.')[:2]), fromlist=['_'])
    assert getattr(package, part.__name__, None) is part


@pytest.mark.parametrize('loss', LOSSES, ids=lambda loss: loss.__name__)
def test_every_loss_is_a_finite_scalar_with_gradient(loss):
    raw, pairs = pair_batch()
    value = registry.MODELS.build(dict(type=loss.__name__))(pairs)
    value.backward()
    assert value.ndim == 0 and torch.isfinite(value) and torch.isfinite(raw.grad).all() and raw.grad.abs().sum() > 0


@pytest.mark.parametrize('loss', OVER_SINGLE_PAIRS, ids=lambda loss: loss.__name__)
@pytest.mark.parametrize('miner', MINERS, ids=lambda miner: miner.__name__)
def test_every_loss_takes_what_every_miner_gives(loss, miner):
    raw, pairs = pair_batch()
    mined = registry.TASK_UTILS.build(dict(type=miner.__name__))(pairs)
    assert isinstance(mined, (Pairs, Triplets)) and len(mined.anchor) > 0
    value = registry.MODELS.build(dict(type=loss.__name__))(pairs, mined)
    value.backward()
    assert torch.isfinite(value) and torch.isfinite(raw.grad).all()


@pytest.mark.parametrize('loss', LOSSES, ids=lambda loss: loss.__name__)
def test_no_loss_depends_on_the_order_of_rows(loss):
    raw, pairs = pair_batch(torch.float64)
    function = registry.MODELS.build(dict(type=loss.__name__))
    order, rows = torch.randperm(12), torch.randperm(6)
    shuffled = PairBatch(pairs.anchors[rows], pairs.candidates[order])
    torch.testing.assert_close(function(shuffled), function(pairs))


@pytest.mark.parametrize('loss', LOSSES, ids=lambda loss: loss.__name__)
@pytest.mark.parametrize('labels', [[0, 1, 2], [4, 4, 4], [7]], ids=['no positive', 'no negative', 'one row'])
def test_every_loss_of_a_degenerate_batch_is_finite_and_keeps_its_graph(loss, labels):
    raw = torch.randn(len(labels), 4, generator=torch.Generator().manual_seed(1)).requires_grad_()
    pairs = PairBatch.from_embeddings(normalize(raw, dim=1), torch.tensor(labels))
    value = registry.MODELS.build(dict(type=loss.__name__))(pairs)
    value.backward()
    assert torch.isfinite(value) and torch.isfinite(raw.grad).all()


@pytest.mark.parametrize('loss', OVER_SINGLE_PAIRS, ids=lambda loss: loss.__name__)
def test_no_gradient_reaches_a_pair_that_is_neither_positive_nor_negative(loss):
    _, pairs = pair_batch()
    value = registry.MODELS.build(dict(type=loss.__name__))(pairs)
    (gradient,) = torch.autograd.grad(value, pairs.similarity)
    assert gradient.any() and not (gradient != 0)[pairs.excluded_mask].any()


def types_in(value):
    """Every ``type`` in a config, however deep."""
    if isinstance(value, dict):
        if isinstance(value.get('type'), str):
            yield value['type']
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for part in value:
            yield from types_in(part)


@functools.cache
def is_registered(name):
    everywhere = [*REGISTRIES, *(group for group in vars(mmengine.registry).values() if isinstance(group, Registry))]
    return any(group.get(name) is not None for group in everywhere)


@pytest.mark.parametrize('config', CONFIGS, ids=lambda path: path.stem)
def test_every_type_of_every_config_is_registered(config):
    names = set(types_in(read(config).to_dict()))
    assert names & {'Adam', 'AdamW'}  # the walk went deep
    assert [name for name in sorted(names) if not is_registered(name)] == []


def test_a_type_that_nobody_registered_is_found_out():
    assert not is_registered('mmdml.NoSuchThing') and not is_registered('NoSuchThing')


@pytest.mark.parametrize('config', CONFIGS, ids=lambda path: path.stem)
def test_every_config_names_parts_that_exist_and_agrees_with_itself(config):
    cfg = read(config)
    assert_parts_exist_and_agree(cfg)
    if 'auto_scale_lr' in cfg:
        assert cfg.auto_scale_lr.base_batch_size == cfg.train_dataloader.batch_size
    assert 'auto_scale_lr' in cfg or 'omniglot' in config.stem


def own_parameters(model):
    """Names, in the model, of what losses, regularizers, sources and targets learn themselves, and of learned masks."""
    head = registry.MODELS.build(model.head)
    names = [f'head.{name}' for name, _ in head.named_parameters()]
    return names + (['neck.masks'] if model.neck.get('learned') else [])


@pytest.mark.parametrize('config', CONFIGS, ids=lambda path: path.stem)
def test_what_a_loss_or_generator_learns_has_an_optimizer_setting_of_its_own(config):
    cfg = read(config)
    settings = (cfg.optim_wrapper.get('paramwise_cfg') or {}).get('custom_keys', {})
    names = own_parameters(cfg.model)
    assert [name for name in names if not any(key in name for key in settings)] == []


def test_parameters_of_losses_generators_and_masks_are_found():
    neck = dict(learned=True)
    sources = dict(prior=dict(type='FlowPrior', num_classes=2, embed_dim=4))
    head = dict(type='EmbeddingHead', loss=dict(type='SigmoidLoss'), sources=sources)
    found = own_parameters(Config(dict(model=dict(neck=neck, head=head))).model)
    assert {'head.loss_fn.log_scale', 'head.sources.prior.means', 'neck.masks'} <= set(found)


def distinct_models():
    """The models of all configs, each once, under the name of the first config that has it."""
    models = {}
    for path in CONFIGS:
        model = read(path).model.to_dict()
        without_pretrained_weights(model)
        models.setdefault(repr(model), pytest.param(model, id=path.stem))
    return list(models.values())


@pytest.mark.parametrize('model', distinct_models())
def test_every_model_learns_from_a_small_batch_and_embeds_it(model):
    assert_learns(model)


@pytest.mark.parametrize(
    'group, name, near',
    [
        ('MODELS', 'CircelLoss', 'CircleLoss'),
        ('MODELS', 'pml.CircelLoss', 'pml.CircleLoss'),
        ('TASK_UTILS', 'pml.TripletMarginMinr', 'pml.TripletMarginMiner'),
        ('HOOKS', 'CheckpointHok', 'CheckpointHook'),
    ],
)
def test_a_mistyped_part_is_answered_in_one_line_with_what_is_near(group, name, near):
    with pytest.raises(KeyError) as raised:
        getattr(registry, group).build(dict(type=name))
    text = raised.value.args[0]
    assert text.startswith(f'there is no {name} among') and f'did you mean {near}' in text and '\n' not in text
    assert len(text) < 150


def test_an_error_without_words_inside_a_part_stays_what_it_is():
    def part():
        raise KeyError

    with pytest.raises(KeyError) as raised:
        registry.MODELS.build(dict(type=part))
    assert 'did you mean' not in str(raised.value)


def test_a_part_of_mmdml_in_another_scope_is_answered_with_its_full_name():
    code = """
from mmengine.registry import DefaultScope
from mmdml.registry import MODELS
with DefaultScope.overwrite_default_scope('mmpretrain'):
    MODELS.build(dict(type='CircleLoss'))
"""
    # In a process that has not imported the parts.
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert done.stderr.splitlines()[-1] == (
        """KeyError: "there is no CircleLoss among the parts of 'model' of this scope; """
        """default_scope of the config is not 'mmdml': write mmdml.CircleLoss\""""
    )
