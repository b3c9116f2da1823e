"""Every registered generator but IAA, which has a folder of its own, without naming them: with losses and learners."""

import dataclasses
import inspect

import pytest
import torch

import mmdml.models.losses
from mmdml.models import DivideAndConquerHead, EmbeddingHead
from mmdml.models.generators import Generator
from mmdml.models.losses import ProxyLoss
from mmdml.models.necks import DivideAndConquerEmbedding, LinearEmbedding
from mmdml.registry import MODELS
from mmdml.structures import Progress, Rows, StepContext

WIDTH, CLASSES = 12, 4
LABELS = torch.tensor([0, 0, 0, 1, 1, 2, 2, 3])
STEP = StepContext(Progress(49, 100, 10))
GENERATORS = sorted(
    (
        part
        for part in MODELS.module_dict.values()
        if inspect.isclass(part) and issubclass(part, Generator) and part.__module__.startswith('mmdml.')
    ),
    key=lambda part: part.__name__,
)
GENERATORS = [part for part in GENERATORS if part.__name__ != 'IAAGenerator']
MIXING = [part for part in GENERATORS if part.__name__ in ('Metrix', 'ProxySynthesis')]
each_generator = pytest.mark.parametrize('kind', GENERATORS, ids=lambda part: part.__name__)


def build(kind, **options):
    sizes = dict(num_classes=CLASSES, embed_dim=WIDTH)
    takes = inspect.signature(kind).parameters
    torch.manual_seed(0)
    options.update({key: sizes[key] for key in sizes if key in takes}, **({'onset': 0} if 'onset' in takes else {}))
    return MODELS.build(dict(type=kind.__name__, **options))


def raw_rows(labels=LABELS, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return (3 * torch.randn(len(labels), WIDTH, generator=generator, dtype=torch.float64)).to(dtype).requires_grad_()


def rows_of(raw, labels=LABELS):
    return Rows.of_batch(raw, labels, torch.arange(len(labels)))


def test_generators_are_there():
    assert len(GENERATORS) >= 4 and len(MIXING) == 2 and len(LOSSES) > 30


@each_generator
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
def test_rows_are_finite_labeled_and_lead_back_to_their_parents(kind, dtype):
    raw = raw_rows(dtype=dtype)
    made = build(kind)(rows_of(raw), STEP)
    assert made.embeddings.dtype == torch.promote_types(dtype, torch.float32) and torch.isfinite(made.embeddings).all()
    parents = made.views[:, 0]
    assert ((made.views >= -1) & (made.views < len(LABELS))).all() and (made.indices == -1).all()
    assert (parents == -1).all() or torch.equal(LABELS[parents], made.labels)
    if made.shares is not None:
        assert ((made.shares >= 0) & (made.shares <= 1)).all() and (made.labels != made.second_labels).all()
        assert torch.equal(LABELS[made.views[:, 1]], made.second_labels)


@each_generator
def test_a_step_makes_the_same_rows_again_on_every_rank_that_shares_them_and_others_at_another_step(kind):
    def rows(**changes):
        step = StepContext(dataclasses.replace(STEP.progress, **changes)).with_shared_rows()
        return build(kind)(rows_of(raw_rows()), step).embeddings

    first = rows(rank=0, world_size=2)
    assert torch.equal(first, rows(rank=1, world_size=2)) and torch.equal(first, rows())
    random = kind.__name__ not in ('EmbeddingExpansion', 'SymmetricalSynthesis')
    assert torch.equal(first, rows(iter=50)) != random


@each_generator
@pytest.mark.parametrize(
    'labels', [[], [0], [1, 1, 1], [0, 1, 2, 3]], ids=['no row', 'one', 'one class', 'no positive']
)
def test_degenerate_batches_through_the_head(kind, labels):
    labels = torch.tensor(labels, dtype=torch.int64)
    raw = raw_rows(labels)
    head = EmbeddingHead(dict(type='MultiSimilarityLoss'))
    head.sources['made'] = build(kind)
    losses = head.loss(raw, labels, torch.arange(len(labels)), LinearEmbedding(4, WIDTH), STEP)
    sum(value for name, value in losses.items() if 'loss' in name).backward()
    assert torch.isfinite(losses['loss']) and torch.isfinite(raw.grad).all()


@each_generator
@pytest.mark.parametrize('fill', [0.0, 1.0], ids=['zero rows', 'equal rows'])
def test_duplicates_through_the_head(kind, fill):
    raw = torch.full((8, WIDTH), fill).requires_grad_()
    head = EmbeddingHead(dict(type='MultiSimilarityLoss'))
    head.sources['made'] = build(kind)
    head.loss(raw, LABELS, None, LinearEmbedding(4, WIDTH), STEP)['loss'].backward()
    assert torch.isfinite(raw.grad).all()


LOSSES = sorted(
    (
        part
        for part in vars(mmdml.models.losses).values()
        if inspect.isclass(part) and part.__name__ in MODELS.module_dict
    ),
    key=lambda part: part.__name__,
)
#: What cannot score a row that belongs to two classes, by design: see docs/losses.md.
REFUSING = {'TripletLoss', 'ContextualLoss', 'HISTLoss'}


@pytest.mark.parametrize('loss', LOSSES, ids=lambda part: part.__name__)
def test_every_loss_takes_every_generator_beside_iaa_and_a_memory_or_refuses_by_name(loss):
    sizes = dict(num_classes=CLASSES, embed_dim=WIDTH) if issubclass(loss, ProxyLoss) else {}
    sources = dict(
        iaa=dict(type='IAAGenerator', num_copies=1, onset=0.9), memory=dict(type='CrossBatchMemory', size=16, start=0)
    )
    head = EmbeddingHead(dict(type=loss.__name__, **sizes), sources=sources, diagnostics_interval=0)
    for kind in GENERATORS:
        head.sources['made'] = build(kind)
        for step in (0, 1):  # The memory has rows from the second step on.
            raw = raw_rows(seed=step)
            where = StepContext(Progress(step, 100, 10))
            try:
                value = head.loss(raw, LABELS, torch.arange(8), LinearEmbedding(4, WIDTH), where)['loss']
            except ValueError as error:
                assert loss.__name__ in str(error) and loss.__name__ in REFUSING and kind in MIXING
                continue
            assert loss.__name__ not in REFUSING or kind not in MIXING
            value.backward()
            assert torch.isfinite(value) and torch.isfinite(raw.grad).all() and raw.grad.any()


@each_generator
@pytest.mark.parametrize('division', ['slices', 'masks'])
@pytest.mark.parametrize('loss', ['MultiSimilarityLoss', 'ProxyAnchorLoss'])
def test_inside_four_learners(kind, loss, division):
    sizes = dict(num_classes=CLASSES, embed_dim=WIDTH) if loss == 'ProxyAnchorLoss' else {}
    head = DivideAndConquerHead(dict(type=loss, **sizes))
    neck = DivideAndConquerEmbedding(in_channels=5, embed_dim=WIDTH, num_learners=4, division=division)
    head.bind(neck)
    head.sources['made'] = build(kind)
    neck.divide(4)
    features = torch.randn(8, 5, generator=torch.Generator().manual_seed(1))
    for learner in (0, 3, None):
        neck.zero_grad()
        where = dataclasses.replace(STEP, learner=None if learner is None else neck.active(learner))
        losses = head.loss(neck(features, learner), LABELS, torch.arange(8), neck, where)
        losses['loss'].backward()
        assert torch.isfinite(losses['loss']) and losses['made_candidates'] > 0
        assert any(parameter.grad is not None and parameter.grad.any() for parameter in neck.parameters())


@each_generator
def test_what_a_learner_does_not_see_plays_no_part_in_its_rows(kind):
    """Slices: the rows of the first of two learners, cut to its slice, do not change with the other half."""
    neck = DivideAndConquerEmbedding(in_channels=5, embed_dim=WIDTH, num_learners=2)
    neck.divide(2)
    where = dataclasses.replace(STEP, learner=neck.active(0))
    raw, other = raw_rows().detach(), raw_rows(seed=1).detach()
    changed = torch.cat([raw[:, :6], other[:, 6:]], 1)
    made = [neck.unit(build(kind)(rows_of(rows), where).embeddings, 0) for rows in (raw, changed)]
    torch.testing.assert_close(*made)


def test_a_source_and_a_regularizer_of_one_name_are_refused():
    with pytest.raises(ValueError, match="'a' names a source and a regularizer"):
        EmbeddingHead(
            dict(type='TripletLoss'),
            sources=dict(a=dict(type='SymmetricalSynthesis')),
            regularizers=dict(a=dict(type='KoLeo', weight=1)),
        )
