"""Triplet loss against all negatives and with the soft margin; the easy-positive miner."""

import math

import pytest
import torch
from pytorch_metric_learning import losses, miners, reducers
from torch.nn.functional import normalize

from mmdml.models.losses import ContrastiveLoss, TripletLoss, pair_sums
from mmdml.models.miners import BatchHardMiner, EasyPositiveMiner
from mmdml.structures import PairBatch, Pairs, Rows, Triplets

LABELS = torch.tensor([0, 0, 0, 1, 1, 2])


def batch(seed=0):
    """Six anchors, the last one alone in its class, and a noisy copy of each among the candidates."""
    raw = torch.randn(12, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    raw[6:] = raw[:6] + 0.7 * raw[6:]
    unit, views = normalize(raw), torch.arange(6)
    return PairBatch(Rows(unit[:6], LABELS, views), Rows(unit, LABELS.repeat(2), views.repeat(2)))


def bend(x, soft):
    return math.log(1 + math.exp(x)) if soft else max(x, 0.0)


def all_triplets(pairs, mined=None):
    """Distance to the positive, to the negative, weight."""
    positive, negative = pairs.weights(mined)
    distance = pairs.distance()
    for i in range(len(pairs.anchors)):
        for j in positive[i].nonzero().flatten().tolist():
            for k in negative[i].nonzero().flatten().tolist():
                yield float(distance[i, j]), float(distance[i, k]), float(positive[i, j] * negative[i, k])


@pytest.mark.parametrize('soft', [False, True])
@pytest.mark.parametrize('reduction', ['paper', 'mean', 'nonzero'])
@pytest.mark.parametrize('weighted', [False, True])
def test_all_negatives_equal_a_plain_loop(reduction, soft, weighted):
    pairs = batch()
    mined = None
    if weighted:
        anchor, candidate = (~pairs.excluded_mask).nonzero(as_tuple=True)
        weight = torch.rand(len(anchor), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        mined = Pairs(anchor, candidate, weight + 0.1)
    terms = [(bend(p - n + 0.1, soft), w) for p, n, w in all_triplets(pairs, mined)]
    assert soft or 0 < sum(term > 0 for term, _ in terms) < len(terms)
    divisor = dict(paper=6, mean=sum(w for _, w in terms), nonzero=sum(w for term, w in terms if term > 0))[reduction]
    loss = TripletLoss(0.1, reduction, negatives='all', soft=soft)
    assert float(loss(pairs, mined)) == pytest.approx(sum(term * w for term, w in terms) / divisor, rel=1e-8)


@pytest.mark.parametrize('reduction', ['paper', 'nonzero'])
def test_blocks_change_neither_value_nor_gradient_of_all_negatives(reduction, monkeypatch):
    results = []
    for entries in (2**23, 20):
        monkeypatch.setattr(pair_sums, 'BLOCK_ENTRIES', entries)
        raw = torch.randn(6, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_()
        value = TripletLoss(0.1, reduction, negatives='all')(PairBatch.from_embeddings(normalize(raw), LABELS))
        results.append((value.detach(), torch.autograd.grad(value, raw)[0]))
    torch.testing.assert_close(results[0], results[1], rtol=1e-12, atol=1e-14)


def test_the_soft_margin_of_hardest_and_of_given_triplets_by_a_loop():
    pairs = batch()
    distance = pairs.distance()
    terms = []
    for i in range(6):
        nearest = float(distance[i][pairs.negative_mask[i]].min())
        terms += [bend(float(d) - nearest, True) for d in distance[i][pairs.positive_mask[i]]]
    assert float(TripletLoss(0.0, soft=True)(pairs)) == pytest.approx(sum(terms) / 6, rel=1e-8)
    mined = Triplets(torch.tensor([0, 3]), torch.tensor([1, 4]), torch.tensor([5, 0]))
    expected = bend(float(distance[0, 1] - distance[0, 5]), True) + bend(float(distance[3, 4] - distance[3, 0]), True)
    loss = TripletLoss(0.0, 'mean', soft=True)
    assert float(loss(pairs, mined)) == pytest.approx(expected / 2, rel=1e-8)
    # A tuple that is no triplet is no term, although the soft margin of 0 is not 0.
    wrong = Triplets(torch.tensor([0, 0]), torch.tensor([1, 5]), torch.tensor([5, 1]))
    assert float(loss(pairs, wrong)) == pytest.approx(bend(float(distance[0, 1] - distance[0, 5]), True), rel=1e-8)


@pytest.mark.parametrize('soft', [False, True])
def test_the_gradient_of_all_negatives_is_that_of_the_value(soft):
    raw = torch.randn(6, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_()
    loss = TripletLoss(0.1, 'mean', negatives='all', soft=soft)
    assert torch.autograd.gradcheck(lambda x: loss(PairBatch.from_embeddings(normalize(x), LABELS)), raw)


@pytest.mark.parametrize('labels', [[0, 1, 2], [4, 4], [7], []], ids=str)
@pytest.mark.parametrize('reduction', ['paper', 'mean', 'nonzero'])
def test_a_batch_without_a_triplet_is_zero_with_a_finite_gradient(labels, reduction):
    unit = torch.eye(3)[: len(labels)].requires_grad_()
    loss = TripletLoss(0.2, reduction, negatives='all', soft=True)
    value = loss(PairBatch.from_embeddings(unit, torch.tensor(labels, dtype=torch.int64)))
    value.backward()
    assert float(value.detach()) == 0 and (unit.grad == 0).all()


def raw_and_labels(seed):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(6).repeat_interleave(4)
    raw = torch.randn(6, 16, generator=generator)[labels] + 1.2 * torch.randn(24, 16, generator=generator)
    return raw.double(), labels


@pytest.mark.parametrize('seed', range(3))
@pytest.mark.parametrize('soft', [False, True])
def test_all_negatives_agree_with_pytorch_metric_learning(seed, soft):
    raw, labels = raw_and_labels(seed)
    results = []
    ours, theirs = TripletLoss(0.1, 'nonzero', 'all', soft), losses.TripletMarginLoss(margin=0.1, smooth_loss=soft)
    for function in (
        lambda x: ours(PairBatch.from_embeddings(normalize(x), labels)),
        lambda x: theirs(x, labels),
    ):
        x = raw.clone().requires_grad_()
        value = function(x)
        results.append((value.detach(), torch.autograd.grad(value, x)[0]))
    torch.testing.assert_close(results[0], results[1], rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize('seed', range(3))
def test_contrastive_loss_over_terms_above_zero_agrees_with_pytorch_metric_learning(seed):
    """Its two kinds of pairs are averaged apart, so one kind is switched off."""
    raw, labels = raw_and_labels(seed)
    ours = ContrastiveLoss(pos_margin=0.3, neg_margin=2.0, distance='euclidean', reduction='nonzero')
    theirs = losses.ContrastiveLoss(pos_margin=0.3, neg_margin=0.0, reducer=reducers.AvgNonZeroReducer())
    pairs = PairBatch.from_embeddings(normalize(raw), labels)
    positives = Pairs(*pairs.positive_mask.nonzero(as_tuple=True))
    torch.testing.assert_close(ours(pairs, positives), theirs(raw, labels), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize('seed', range(3))
@pytest.mark.parametrize('negatives, theirs', [('semi-hard', 'semihard'), ('hard', 'hard')])
def test_easy_positive_miner_agrees_with_pytorch_metric_learning(seed, negatives, theirs):
    raw, labels = raw_and_labels(seed)
    mined = EasyPositiveMiner(negatives)(PairBatch.from_embeddings(normalize(raw), labels))
    anchor, positive, _, negative = miners.BatchEasyHardMiner('easy', theirs)(raw, labels)
    assert len(anchor) > 5
    assert all(torch.equal(a, b) for a, b in zip(mined, (anchor, positive, negative), strict=True))


def test_easy_positive_miner_by_hand():
    # One class at 0, 10 and 30 degrees, others at 25 and 55.
    angle = torch.deg2rad(torch.tensor([0.0, 10.0, 30.0, 25.0, 55.0]))
    pairs = PairBatch.from_embeddings(torch.stack([angle.cos(), angle.sin()], 1), torch.tensor([0, 0, 0, 1, 2]))
    semi_hard, hard = (EasyPositiveMiner(kind)(pairs) for kind in ('semi-hard', 'hard'))
    assert [part.tolist() for part in semi_hard] == [[0, 1, 2], [1, 0, 1], [3, 3, 4]]
    assert [part.tolist() for part in hard] == [[0, 1, 2], [1, 0, 1], [3, 3, 3]]


@pytest.mark.parametrize('labels', [[0, 1, 2], [4, 4], [7], []], ids=str)
def test_easy_positive_miner_of_a_batch_without_triplet(labels):
    unit = torch.eye(3)[: len(labels)]
    mined = EasyPositiveMiner()(PairBatch.from_embeddings(unit, torch.tensor(labels, dtype=torch.int64)))
    assert [len(part) for part in mined] == [0, 0, 0] and mined.anchor.dtype == torch.int64


def test_batch_hard_with_the_soft_margin_is_that_of_hermans():
    pairs = batch()
    distance = pairs.distance()
    terms = []
    for i in range(6):
        hardest = float(distance[i][pairs.positive_mask[i]].max()) if pairs.positive_mask[i].any() else None
        if hardest is not None:
            terms.append(bend(hardest - float(distance[i][pairs.negative_mask[i]].min()), True))
    value = TripletLoss(0.0, 'mean', soft=True)(pairs, BatchHardMiner()(pairs))
    assert float(value) == pytest.approx(sum(terms) / len(terms), rel=1e-8)


def test_unknown_choices_are_refused():
    with pytest.raises(ValueError, match="negatives must be one of .*, got 'some'"):
        TripletLoss(negatives='some')
    with pytest.raises(ValueError, match="negatives must be one of .*, got 'easy'"):
        EasyPositiveMiner('easy')
