"""Losses and miners of pytorch-metric-learning: all of them, and which fit in what way."""

import inspect

import pytest
import torch
from pytorch_metric_learning import losses as pml_losses
from pytorch_metric_learning import miners as pml_miners
from pytorch_metric_learning.reducers import ClassWeightedReducer, MeanReducer, MultipleReducers, SumReducer
from torch.nn.functional import normalize

from mmdml.models import EmbeddingHead
from mmdml.models.losses.pml_adapter import ONE_BATCH, REFUSED_LOSSES, WITH_REFERENCES, index_tuples
from mmdml.models.miners.pml_adapter import AMONG_TUPLES, EACH_TUPLE, REFUSED_MINERS
from mmdml.models.necks import LinearEmbedding
from mmdml.registry import MODELS, TASK_UTILS
from mmdml.structures import Embeddings, PairBatch, Pairs, Progress, Rows, Space, StepContext, Triplets

WIDTH, LABELS = 6, torch.tensor([0, 0, 1, 1, 2, 2, 3, 3])
ABSTRACT = {
    'BaseLossWrapper',
    'BaseMetricLossFunction',
    'GenericPairLoss',
    'EmbeddingRegularizerMixin',
    'WeightRegularizerMixin',
}
CLASSES_AND_WIDTH = dict(num_classes=4, embedding_size=WIDTH)
ARGUMENTS = {
    name: CLASSES_AND_WIDTH
    for name in (
        'ArcFaceLoss CosFaceLoss LargeMarginSoftmaxLoss NormalizedSoftmaxLoss ProxyAnchorLoss ProxyNCALoss '
        'SoftTripleLoss SphereFaceLoss SubCenterArcFaceLoss'
    ).split()
}
ARGUMENTS['RankedListLoss'] = dict(margin=0.4, Tn=10)
ARGUMENTS['P2SGradLoss'] = dict(num_classes=4, descriptors_dim=WIDTH)


def built(name, registry=MODELS, **arguments):
    torch.manual_seed(0)
    return registry.build(dict(type=f'pml.{name}', **{**ARGUMENTS.get(name, {}), **arguments}))


def classes_of(module, kind):
    return {name for name, part in vars(module).items() if inspect.isclass(part) and issubclass(part, kind)}


def raw_rows(seed=0):
    return torch.randn(8, WIDTH, generator=torch.Generator().manual_seed(seed)).requires_grad_()


def batch(raw):
    return PairBatch.from_embeddings(normalize(raw), LABELS)


def with_copies(raw):
    """Two copies of each anchor among the candidates, which share its identity."""
    unit = normalize(torch.cat([raw, raw.detach() + 0.1, raw.detach() - 0.1]))
    views = torch.arange(8)
    return PairBatch(Rows(unit[:8], LABELS, views), Rows(unit, LABELS.repeat(3), views.repeat(3)))


def test_every_loss_and_miner_of_the_package_is_in_one_group(record_property):
    groups = dict(
        references=sorted(WITH_REFERENCES),
        batch=sorted(ONE_BATCH),
        refused=sorted(REFUSED_LOSSES),
        each_tuple=sorted(EACH_TUPLE),
        among_tuples=sorted(AMONG_TUPLES),
        refused_miners=sorted(REFUSED_MINERS),
    )
    for name, members in groups.items():
        record_property(name, members)
        print(f'{name}: {", ".join(members)}')
    losses = classes_of(pml_losses, torch.nn.Module) - ABSTRACT
    assert WITH_REFERENCES | ONE_BATCH | set(REFUSED_LOSSES) == losses
    assert len(losses) == len(WITH_REFERENCES) + len(ONE_BATCH) + len(REFUSED_LOSSES) >= 36
    miners = classes_of(pml_miners, torch.nn.Module)
    assert EACH_TUPLE | AMONG_TUPLES | set(REFUSED_MINERS) == miners
    assert len(miners) == len(EACH_TUPLE) + len(AMONG_TUPLES) + len(REFUSED_MINERS)


@pytest.mark.parametrize('name', sorted(WITH_REFERENCES | ONE_BATCH))
def test_every_loss_that_fits_trains_through_the_head_with_iaa(name):
    head = EmbeddingHead(
        dict(type=f'pml.{name}', **ARGUMENTS.get(name, {})),
        sources=dict(iaa=dict(type='IAAGenerator', num_copies=2, lam=0.5, onset=0)),
    )
    raw, step = raw_rows(), StepContext(Progress(40, 100, 10))

    head.sources['iaa'].estimator.receive_embeddings(
        Embeddings(raw.detach(), LABELS, torch.arange(8), 4), step.progress
    )
    value = head.loss(raw, LABELS, torch.arange(8), LinearEmbedding(4, WIDTH), step)['loss']
    value.backward()
    assert value.shape == () and torch.isfinite(value)
    assert torch.isfinite(raw.grad).all() and raw.grad.abs().sum() > 0
    assert all(torch.isfinite(parameter.grad).all() for parameter in head.loss_fn.parameters())


@pytest.mark.parametrize('name', sorted(WITH_REFERENCES | ONE_BATCH))
def test_without_sources_the_value_is_that_of_the_package(name):
    raw = raw_rows()
    ours = built(name)
    torch.manual_seed(0)
    theirs = getattr(pml_losses, name)(**ARGUMENTS.get(name, {}))
    # The ones that sample triplets when they are given labels only get all of them here.
    tuples = None
    if name == 'TripletMarginLoss':
        tuples = pml_miners.TripletMarginMiner(margin=10)(normalize(raw), LABELS)
    torch.testing.assert_close(ours(batch(raw)), theirs(normalize(raw), LABELS, tuples), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('name', sorted(WITH_REFERENCES | ONE_BATCH))
@pytest.mark.parametrize('rows', [0, 1, 3])
def test_batches_without_positives_have_a_value_and_a_graph(name, rows):
    raw = torch.randn(rows, WIDTH).requires_grad_()
    value = built(name)(PairBatch.from_embeddings(normalize(raw), torch.arange(rows)))
    value.backward()
    assert torch.isfinite(value) and torch.isfinite(raw.grad).all()


@pytest.mark.parametrize('name', sorted(WITH_REFERENCES))
def test_it_does_not_matter_where_the_copies_of_the_only_anchor_are(name):
    """Without index tuples the package would take them for its positives."""
    unit = normalize(raw_rows().detach() + 2)  # near each other, so that every loss is above 0

    def value(copy):
        rows = Rows(torch.cat([unit, copy]), torch.cat([LABELS, LABELS[:1]]), torch.tensor([*range(8), 0]))
        return built(name)(PairBatch(rows[:1], rows))

    assert value(unit[:1]).item() == value(-unit[:1]).item() != 0


def test_contrastive_loss_by_a_loop_with_copies():
    pairs, total = with_copies(raw_rows()), dict(pos=[], neg=[])
    for i in range(8):
        for j in range(24):
            if i != j % 8:
                d = float((pairs.anchors.embeddings[i] - pairs.candidates.embeddings[j]).norm().detach())
                if LABELS[i] == LABELS[j % 8]:
                    total['pos'].append(d)
                else:
                    total['neg'].append(max(0.0, 1 - d))
    # Means over the terms above 0, as the package's reducer takes them.
    means = [sum(values) / max(sum(value > 0 for value in values), 1) for values in total.values()]
    assert float(built('ContrastiveLoss')(pairs).detach()) == pytest.approx(sum(means), rel=1e-5)


def test_distances_and_reducers_are_configs():
    loss = built(
        'ContrastiveLoss',
        pos_margin=0.8,
        neg_margin=0.5,
        distance=dict(type='pml.CosineSimilarity'),
        reducer=dict(type='pml.SumReducer'),
    )
    pairs = batch(raw_rows())
    ours = MODELS.build(dict(type='ContrastiveLoss', pos_margin=0.8, neg_margin=0.5))
    torch.testing.assert_close(loss(pairs) / 8, ours(pairs))


def test_what_does_not_fit_is_refused_with_the_reason():
    for name, reason in REFUSED_LOSSES.items():
        with pytest.raises(ValueError, match=f'pml.{name} cannot be used here: {reason[:20]}'):
            built(name)
    with pytest.raises(ValueError, match='order of rows'):
        built('EmbeddingsAlreadyPackagedAsTriplets', TASK_UTILS)
    with pytest.raises(KeyError, match='NoSuchLoss'):
        built('NoSuchLoss')


def test_a_loss_over_one_batch_says_so_and_refuses_what_it_cannot_use(monkeypatch):
    said = []
    monkeypatch.setattr('mmdml.models.losses.pml_adapter.print_log', lambda text, **_: said.append(text))
    loss = built('ArcFaceLoss')
    built('CircleLoss')
    assert len(said) == 1 and said[0].startswith('pml.ArcFaceLoss takes no references')
    pairs = batch(raw_rows())
    with pytest.raises(ValueError, match='cannot use mined Triplets; remove the miner'):
        loss(pairs, Triplets.none())
    with pytest.raises(ValueError, match='embedding_size=6, but rows have 8 columns'):
        loss(PairBatch.from_embeddings(torch.eye(8), LABELS))
    with pytest.raises(ValueError, match=r'labels must lie in 0\.\.3, got 4'):
        loss(PairBatch.from_embeddings(pairs.anchors.embeddings, LABELS + 1))
    with pytest.raises(ValueError, match='cannot use targets'):
        loss(PairBatch(pairs.anchors, pairs.candidates, targets=torch.eye(8)))


def test_a_space_and_weights_of_mined_pairs_are_refused():
    class Other(Space):
        pass

    pairs = batch(raw_rows())
    with pytest.raises(ValueError, match='has a distance of its own, not Other'):
        built('CircleLoss')(PairBatch(pairs.anchors, pairs.candidates, space=Other()))
    index = torch.tensor([0])
    with pytest.raises(ValueError, match='cannot use weights'):
        built('CircleLoss')(pairs, Pairs(index, index + 1, torch.tensor([0.5])))


def test_mined_tuples_are_used_and_those_of_one_identity_are_left_out():
    pairs, index = with_copies(raw_rows()), torch.tensor([0, 0, 0])
    # Its own copy, its positive, a negative.
    kept = index_tuples(pairs, Pairs(index, torch.tensor([8, 9, 10])))
    assert [each.tolist() for each in kept] == [[0], [9], [0], [10]]
    kept = index_tuples(pairs, Triplets(index[:2], torch.tensor([8, 9]), torch.tensor([10, 10])))
    assert [each.tolist() for each in kept] == [[0], [9], [10]]
    theirs = built('TripletMarginLoss', reducer=dict(type='pml.MeanReducer'))
    ours = MODELS.build(dict(type='TripletLoss', margin=0.05, reduction='mean'))
    mined = TASK_UTILS.build(dict(type='SemiHardMiner'))(pairs)
    torch.testing.assert_close(theirs(pairs, mined), ours(pairs, mined))


@pytest.mark.parametrize('name', sorted(EACH_TUPLE))
def test_miners_of_single_tuples_never_return_copies(name):
    pairs = with_copies(raw_rows())
    arguments = dict(angle=1) if name == 'AngularMiner' else {}
    mined = built(name, TASK_UTILS, **arguments)(pairs.detach())
    assert len(mined.anchor) > 0
    if isinstance(mined, Triplets):
        assert pairs.positive_mask[mined.anchor, mined.positive].all()
        assert pairs.negative_mask[mined.anchor, mined.negative].all()
    else:
        assert not pairs.excluded_mask[mined.anchor, mined.candidate].any()


def test_triplet_margin_miner_by_a_loop_with_copies():
    pairs = with_copies(raw_rows())
    mined = built('TripletMarginMiner', TASK_UTILS, margin=0.2)(pairs.detach())
    distance, expected = pairs.distance().detach(), set()
    for i in range(8):
        for p in range(24):
            for n in range(24):
                positive = LABELS[i] == LABELS[p % 8] and i != p % 8
                if positive and LABELS[i] != LABELS[n % 8] and distance[i, n] - distance[i, p] <= 0.2:
                    expected.add((i, p, n))
    assert set(zip(*(index.tolist() for index in mined), strict=True)) == expected != set()


@pytest.mark.parametrize('name', sorted(AMONG_TUPLES))
def test_miners_that_compare_tuples_take_anchors_alone(name):
    miner, raw = built(name, TASK_UTILS), raw_rows()
    pairs = batch(raw)
    mined = miner(pairs.detach())
    torch.manual_seed(0)
    if name != 'UniformHistogramMiner':
        theirs = getattr(pml_miners, name)()(normalize(raw), LABELS)
        assert torch.equal(mined.anchor.sort()[0], torch.cat([theirs[0], *theirs[2:3]][: len(theirs) - 2]).sort()[0])
    assert len(mined.anchor) > 0 and not pairs.excluded_mask[mined.anchor, mined[1]].any()
    with pytest.raises(ValueError, match=f'pml.{name} compares the pairs of a row'):
        miner(with_copies(raw).detach())


def test_draws_follow_the_generator_of_the_pairs_and_leave_the_global_one_alone():
    def mined(seed):
        pairs = with_copies(raw_rows())
        pairs.random = torch.Generator().manual_seed(seed)
        return built('DistanceWeightedMiner', TASK_UTILS)(pairs.detach())

    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = mined(1)
    torch.manual_seed(5)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(first, mined(1), strict=True))
    assert any(a.shape != b.shape or not torch.equal(a, b) for a, b in zip(first, mined(2), strict=True))


def test_a_miner_and_a_loss_of_the_package_work_together_in_the_head():
    head = EmbeddingHead(dict(type='pml.MarginLoss'), miner=dict(type='pml.PairMarginMiner', neg_margin=1.9))
    raw = raw_rows()
    value = head.loss(raw, LABELS, None, LinearEmbedding(4, WIDTH))['loss']
    value.backward()
    assert torch.isfinite(value) and raw.grad.abs().sum() > 0
    assert 'pml.PairMarginMiner(neg_margin=1.9)' in repr(head.miner)


@pytest.mark.parametrize('name', ['BatchHardMiner', 'TripletMarginMiner'])
def test_miners_of_the_package_refuse_targets_that_differ_from_the_labels(name):
    miner, rows = built(name, TASK_UTILS), batch(raw_rows()).anchors
    same = (rows.labels[:, None] == rows.labels[None, :]).float()
    mined = miner(PairBatch(rows, rows, targets=same))
    plain = built(name, TASK_UTILS)(PairBatch(rows, rows))
    assert len(mined.anchor) and all(map(torch.equal, [mined.anchor, mined.positive], [plain.anchor, plain.positive]))
    with pytest.raises(ValueError, match=f'pml.{name} uses class labels and cannot use targets that differ'):
        miner(PairBatch(rows, rows, targets=1 - same))


@pytest.mark.parametrize(
    'key, name, near', [('distance', 'CosinSimilarity', 'CosineSimilarity'), ('reducer', 'MenReducer', 'MeanReducer')]
)
def test_an_unknown_helper_is_named_with_near_ones_and_not_called_a_missing_package(key, name, near):
    with pytest.raises(ValueError, match=f"{key}: pytorch-metric-learning has no .*'{name}'.*{near}"):
        built('TripletMarginLoss', **{key: dict(type=f'pml.{name}')})


def test_reducers_of_several_reducers_and_of_class_weights_are_built_from_a_config():
    raw, weights = raw_rows(), [1.0, 2.0, 0.0, 0.5]
    reducers = dict(pos_loss=dict(type='pml.MeanReducer'), neg_loss=dict(type='SumReducer'))
    ours = built('ContrastiveLoss', reducer=dict(type='pml.MultipleReducers', reducers=reducers))(batch(raw))
    theirs = pml_losses.ContrastiveLoss(reducer=MultipleReducers(dict(pos_loss=MeanReducer(), neg_loss=SumReducer())))
    torch.testing.assert_close(ours, theirs(normalize(raw), LABELS))
    ours = built('ContrastiveLoss', reducer=dict(type='pml.ClassWeightedReducer', weights=weights))(batch(raw))
    theirs = pml_losses.ContrastiveLoss(reducer=ClassWeightedReducer(weights=torch.tensor(weights)))
    torch.testing.assert_close(ours, theirs(normalize(raw), LABELS))


def test_a_label_without_boundary_is_refused_and_takes_no_other_one():
    loss = built('MarginLoss', num_classes=4, learn_beta=True)
    for labels in (LABELS - 1, LABELS + 1):
        with pytest.raises(ValueError, match=r'pml.MarginLoss has num_classes=4, so labels must lie in 0..3, got'):
            loss(PairBatch.from_embeddings(normalize(raw_rows()), labels))
