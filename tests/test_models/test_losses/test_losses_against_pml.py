"""Agreement with pytorch-metric-learning, in value and gradient, where the definitions coincide."""

import pytest
import torch
from pytorch_metric_learning import distances, losses, miners, reducers
from torch.nn.functional import normalize

from mmdml.models.losses import ContrastiveLoss, MultiSimilarityLoss, TripletLoss
from mmdml.models.miners import BatchHardMiner
from mmdml.registry import MODELS
from mmdml.structures import PairBatch, Rows, Triplets

ROWS = 24


def raw_and_labels(seed):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(6).repeat_interleave(4)
    raw = torch.randn(6, 16, generator=generator)[labels] + 1.2 * torch.randn(ROWS, 16, generator=generator)
    return raw.double(), labels


def value_and_gradient(function, raw):
    raw = raw.clone().requires_grad_()
    value = function(raw)
    return value.detach(), torch.autograd.grad(value, raw)[0]


def assert_same(ours, theirs, raw):
    actual, expected = value_and_gradient(ours, raw), value_and_gradient(theirs, raw)
    assert float(expected[0]) > 0
    torch.testing.assert_close(actual, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize('seed', range(3))
def test_contrastive_agrees(seed):
    raw, labels = raw_and_labels(seed)
    theirs = losses.ContrastiveLoss(
        pos_margin=0.8, neg_margin=0.5, distance=distances.CosineSimilarity(), reducer=reducers.SumReducer()
    )
    assert_same(
        lambda x: ContrastiveLoss()(PairBatch.from_embeddings(normalize(x), labels)),
        lambda x: theirs(x, labels) / ROWS,
        raw,
    )


@pytest.mark.parametrize('seed', range(3))
def test_euclidean_contrastive_agrees(seed):
    raw, labels = raw_and_labels(seed)
    theirs = losses.ContrastiveLoss(pos_margin=0.4, neg_margin=1.2, reducer=reducers.SumReducer())
    ours = ContrastiveLoss(pos_margin=0.4, neg_margin=1.2, distance='euclidean')
    assert_same(
        lambda x: ours(PairBatch.from_embeddings(normalize(x), labels)), lambda x: theirs(x, labels) / ROWS, raw
    )


@pytest.mark.parametrize('seed', range(3))
def test_multi_similarity_with_its_miner_agrees(seed):
    raw, labels = raw_and_labels(seed)
    theirs, miner = losses.MultiSimilarityLoss(alpha=2, beta=40, base=0.5), miners.MultiSimilarityMiner(epsilon=0.1)
    assert_same(
        lambda x: MultiSimilarityLoss()(PairBatch.from_embeddings(normalize(x), labels)),
        lambda x: theirs(x, labels, miner(x, labels)),
        raw,
    )


@pytest.mark.parametrize('seed', range(3))
def test_triplet_with_given_triplets_agrees(seed):
    raw, labels = raw_and_labels(seed)
    triplets = miners.TripletMarginMiner(margin=0.3, type_of_triplets='all')(raw, labels)
    theirs = losses.TripletMarginLoss(margin=0.2, reducer=reducers.MeanReducer())
    ours = TripletLoss(margin=0.2, reduction='mean')
    assert len(triplets[0]) > ROWS
    assert_same(
        lambda x: ours(PairBatch.from_embeddings(normalize(x), labels), Triplets(*triplets)),
        lambda x: theirs(x, labels, triplets),
        raw,
    )


@pytest.mark.parametrize('seed', range(3))
def test_batch_hard_miner_agrees(seed):
    raw, labels = raw_and_labels(seed)
    mined = BatchHardMiner()(PairBatch.from_embeddings(normalize(raw), labels))
    expected = miners.BatchHardMiner()(raw, labels)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(mined, expected, strict=True))


SAME_DEFINITION = [
    (dict(type='NTXentLoss', temperature=0.1), lambda: losses.NTXentLoss(temperature=0.1)),
    (dict(type='SupConLoss'), lambda: losses.SupConLoss()),
    (dict(type='CircleLoss'), lambda: losses.CircleLoss()),
    (dict(type='LiftedStructureLoss'), lambda: losses.LiftedStructureLoss()),
    (dict(type='GeneralizedLiftedStructureLoss'), lambda: losses.GeneralizedLiftedStructureLoss()),
    (dict(type='AngularLoss'), lambda: losses.AngularLoss()),
    (dict(type='TupletMarginLoss'), lambda: losses.TupletMarginLoss()),
    (dict(type='HistogramLoss'), lambda: losses.HistogramLoss()),
    (dict(type='FastAPLoss'), lambda: losses.FastAPLoss()),
    (dict(type='TCMLoss'), lambda: losses.ThresholdConsistentMarginLoss()),
]


@pytest.mark.parametrize('seed', range(3))
@pytest.mark.parametrize('config, other', SAME_DEFINITION, ids=[config['type'] for config, _ in SAME_DEFINITION])
def test_the_same_definition_gives_the_same_value_and_gradient(config, other, seed):
    raw, labels = raw_and_labels(seed)
    ours, theirs = MODELS.build(config), other()
    # Its angular loss leaves the negatives as long as they are.
    assert_same(
        lambda x: ours(PairBatch.from_embeddings(normalize(x), labels)), lambda x: theirs(normalize(x), labels), raw
    )


@pytest.mark.parametrize('seed', range(3))
def test_smooth_ap_agrees_if_an_anchor_is_its_own_first_candidate(seed):
    # Its rows of a class and classes are mixed up, which is right only where there are as many of both.
    raw, labels = (part[:16] for part in raw_and_labels(seed))
    ours, theirs = MODELS.build(dict(type='SmoothAPLoss')), losses.SmoothAPLoss()

    def with_itself(x):
        unit = normalize(x)
        rows = Rows.of_batch(unit, labels)
        return PairBatch(rows, Rows(unit, labels, torch.arange(16) + 16))

    # It sums the shares in fp32.
    (value, gradient), (expected, expected_gradient) = (
        value_and_gradient(function, raw)
        for function in (lambda x: ours(with_itself(x)), lambda x: theirs(x, labels).double())
    )
    torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize('seed', range(3))
def test_ranked_list_agrees_up_to_what_is_added_to_its_weights(seed):
    raw, labels = raw_and_labels(seed)
    ours = MODELS.build(dict(type='RankedListLoss', margin=0.4, neg_temperature=10.0))
    theirs = losses.RankedListLoss(margin=0.4, Tn=10)
    (value, gradient), (expected, expected_gradient) = (
        value_and_gradient(function, raw)
        for function in (
            lambda x: ours(PairBatch.from_embeddings(normalize(x), labels)),
            lambda x: theirs(x, labels),
        )
    )
    torch.testing.assert_close(value, expected, rtol=1e-3, atol=0)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-2, atol=1e-4)
