"""Margin loss: hand-made distances, a plain loop, and pytorch-metric-learning."""

import math

import pytest
import torch
from pytorch_metric_learning import losses as pml
from torch.nn.functional import normalize

from mmdml.models.losses import MarginLoss
from mmdml.registry import MODELS
from mmdml.structures import PairBatch, Pairs, Rows, Triplets

#: Class boundaries that differ, for the classes of ``batch``.
BETAS = [0.7, 1.0, 1.3]


def batch(seed=0, dtype=torch.float64):
    """Seven anchors, and as candidates the anchors, a noisy copy of each, and two remembered rows."""
    generator = torch.Generator().manual_seed(seed)
    raw = torch.randn(16, 4, generator=generator, dtype=dtype)
    raw[7:14] = raw[:7] + 0.3 * raw[7:14]
    raw[1] = raw[0]
    unit = normalize(raw).requires_grad_()
    labels, views = torch.tensor([0, 0, 0, 1, 1, 2, 2]), torch.arange(7)
    return PairBatch(
        Rows(unit[:7], labels, views),
        Rows(
            unit, torch.cat([labels, labels, torch.tensor([0, 2])]), torch.cat([views, views, torch.tensor([-1, -1])])
        ),
    )


def all_triplets(pairs):
    i, j = pairs.positive_mask.nonzero(as_tuple=True)
    chosen, k = pairs.negative_mask[i].nonzero(as_tuple=True)
    return Triplets(i[chosen], j[chosen], k)


def distance(pairs, i, x):
    return math.sqrt(
        float((pairs.anchors.embeddings[i] - pairs.candidates.embeddings[x]).detach().square().sum()) + 1e-8
    )


def triplet_loop(pairs, triplets, betas, alpha=0.2, nu=0.0):
    total, count = 0.0, 0
    for a, p, n in zip(*(index.tolist() for index in triplets), strict=True):
        beta = betas[int(pairs.anchors.labels[a])]
        terms = max(distance(pairs, a, p) - beta + alpha, 0), max(beta - distance(pairs, a, n) + alpha, 0)
        total += sum(terms) + nu * abs(beta)
        count += sum(term > 0 for term in terms)
    return total / count


def pair_loop(pairs, betas, alpha=0.2):
    total, count = 0.0, 0
    for i in range(len(pairs.anchors)):
        for x in range(len(pairs.candidates)):
            if int(pairs.candidates.views[x, 0]) == int(pairs.anchors.views[i, 0]):
                continue
            sign = 1 if pairs.anchors.labels[i] == pairs.candidates.labels[x] else -1
            term = max(alpha + sign * (distance(pairs, i, x) - betas[int(pairs.anchors.labels[i])]), 0)
            total, count = total + term, count + (term > 0)
    return total / count


def per_class(**options):
    loss = MarginLoss(beta_mode='class', num_classes=3, **options).double()
    loss.beta.data = torch.tensor(BETAS, dtype=torch.float64)
    return loss


def test_value_of_hand_made_distances():
    # 0, 60, 90 and 180 degrees: distances of 1, sqrt 2 and 2 from the anchor.
    angle = torch.deg2rad(torch.tensor([0.0, 60.0, 90.0, 180.0], dtype=torch.float64))
    pairs = PairBatch.from_embeddings(torch.stack([angle.cos(), angle.sin()], 1), torch.tensor([0, 0, 0, 1]))
    value = MarginLoss(alpha=0.2, beta=1.2)(pairs, Triplets(*torch.tensor([[0, 0], [1, 2], [3, 3]])))
    # D_ap = 1 is just inside (term 0); D_ap = sqrt 2 costs sqrt 2 - 1; D_an = 2 costs nothing.
    assert float(value) == pytest.approx(math.sqrt(2) - 1, abs=1e-7)
    # Anchor 0 is a negative of row 3 at 2, rows 1 and 2 at sqrt 3 and sqrt 2: nothing within 1.4.
    negatives = Pairs(torch.tensor([0, 1, 2]), torch.tensor([3, 3, 3]))
    assert float(MarginLoss(beta=1.9)(pairs, negatives)) == pytest.approx((0.1 + 2.1 - 3**0.5 + 2.1 - 2**0.5) / 3)


@pytest.mark.parametrize('seed', range(3))
@pytest.mark.parametrize('nu', [0.0, 0.3])
def test_triplets_equal_a_loop(seed, nu):
    pairs = batch(seed)
    triplets = Triplets(*(index[::3] for index in all_triplets(pairs)))
    value = per_class(nu=nu)(pairs, triplets)
    assert float(value.detach()) == pytest.approx(triplet_loop(pairs, triplets, BETAS, nu=nu), abs=1e-9)
    constant = MarginLoss(nu=nu)(pairs, triplets)
    # The constant is held in single precision.
    assert float(constant.detach()) == pytest.approx(triplet_loop(pairs, triplets, [1.2] * 3, nu=nu), abs=1e-6)


@pytest.mark.parametrize('seed', range(3))
def test_all_pairs_equal_a_loop(seed):
    pairs = batch(seed)
    assert float(per_class()(pairs).detach()) == pytest.approx(pair_loop(pairs, BETAS), abs=1e-9)
    everything = Pairs(*(~pairs.excluded_mask).nonzero(as_tuple=True))
    torch.testing.assert_close(per_class()(pairs, everything), per_class()(pairs), rtol=1e-12, atol=0)


@pytest.mark.parametrize('nu', [0.0, 0.3])
def test_repeating_every_tuple_changes_nothing(nu):
    pairs, loss = batch(), per_class(nu=nu)
    triplets = all_triplets(pairs)
    twice = Triplets(*(index.repeat(2) for index in triplets))
    torch.testing.assert_close(loss(pairs, twice), loss(pairs, triplets), rtol=1e-12, atol=0)


def test_weights_of_pairs_count_in_sum_and_divisor():
    pairs, loss = batch(), per_class(alpha=2.0)
    anchor, candidate = torch.tensor([0, 3]), torch.tensor([2, 5])
    once = Pairs(anchor, candidate, torch.tensor([3.0, 1.0], dtype=torch.float64))
    repeated = Pairs(torch.tensor([0, 0, 0, 3]), torch.tensor([2, 2, 2, 5]))
    (gradient,) = torch.autograd.grad(loss(pairs, once), pairs.similarity, retain_graph=True)
    assert (gradient != 0).sum() == 2
    torch.testing.assert_close(loss(pairs, once), loss(pairs, repeated), rtol=1e-12, atol=0)


@pytest.mark.parametrize('nu', [0.0, 0.3])
@pytest.mark.parametrize('kind', ['no active term', 'nothing mined', 'no candidates'])
def test_without_an_active_term_the_loss_is_zero_with_a_finite_gradient(kind, nu):
    unit = torch.eye(4, 3)[[0, 0, 1, 1]].requires_grad_()
    pairs = PairBatch.from_embeddings(unit, torch.tensor([0, 0, 1, 1]))
    loss = MarginLoss(beta=0.8, beta_mode='global', nu=nu)
    none = torch.zeros(0, dtype=torch.int64)
    mined = Triplets(none, none, none) if kind == 'nothing mined' else None
    if kind == 'no candidates':
        pairs = PairBatch(Rows(unit, torch.tensor([0, 0, 1, 1]), torch.arange(4)), Rows(unit[:0], none, none))
    value = loss(pairs, mined)
    value.backward()
    assert float(value.detach()) == 0
    assert (unit.grad == 0).all() and (loss.beta.grad == 0).all()


def test_equal_rows_have_a_finite_gradient():
    raw = torch.ones(4, 5).requires_grad_()
    value = MarginLoss()(PairBatch.from_embeddings(normalize(raw), torch.tensor([0, 0, 1, 1])))
    value.backward()
    # Only the negatives are on the wrong side, by beta + alpha less the distance of 1e-4 at least.
    assert float(value.detach()) == pytest.approx(1.4, abs=1e-3) and torch.isfinite(raw.grad).all()


@pytest.mark.parametrize('mine', [None, all_triplets], ids=['all pairs', 'triplets'])
def test_gradient_of_rows_and_boundaries_is_that_of_the_value(mine):
    labels = torch.tensor([0, 0, 1, 1, 2])

    def of(raw, beta):
        loss = per_class(nu=0.1)
        pairs = PairBatch.from_embeddings(normalize(raw), labels)
        mined = mine(pairs) if mine else None
        return torch.func.functional_call(loss, {'beta': beta}, (pairs, mined))

    raw = torch.randn(5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
    beta = torch.tensor(BETAS, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(of, (raw, beta))


def test_the_boundary_is_that_of_the_anchors_class():
    pairs, loss = batch(), per_class()
    triplets = all_triplets(pairs)
    chosen = pairs.anchors.labels[triplets.anchor] == 1
    loss(pairs, Triplets(*(index[chosen] for index in triplets))).backward()
    assert loss.beta.grad[1] != 0 and (loss.beta.grad[[0, 2]] == 0).all()


def test_the_gradient_reaches_the_mined_pairs_on_the_wrong_side_of_the_boundary_or_within_its_margin():
    pairs, loss = batch(2), MarginLoss(beta=1.0)
    triplets = Triplets(*(index[::4] for index in all_triplets(pairs)))
    (gradient,) = torch.autograd.grad(loss(pairs, triplets), pairs.similarity)
    beyond = pairs.distance(eps=1e-8) - 1.0
    wrong = torch.where(pairs.positive_mask, beyond, -beyond) > -0.2
    mined = torch.add(*pairs.weights(triplets)) > 0
    assert mined.any() and torch.equal(gradient != 0, mined & wrong)


@pytest.mark.parametrize('mode, parameters, saved', [('constant', 0, 0), ('global', 1, 1), ('class', 3, 3)])
def test_only_learned_boundaries_are_parameters_and_saved(mode, parameters, saved):
    loss = MODELS.build(dict(type='MarginLoss', beta=1.1, beta_mode=mode, num_classes=3))
    assert sum(value.numel() for value in loss.parameters()) == parameters
    assert sum(value.numel() for value in loss.state_dict().values()) == saved
    assert (loss.beta == 1.1).all()


def test_a_learned_boundary_moves_to_separate_the_distances():
    # Positives at 0.5, negatives at 1.9: with a margin of 0.1 any boundary in 0.6..1.8 costs nothing.
    angle = 2 * torch.asin(torch.tensor([0.25, 0.95], dtype=torch.float64))
    unit = torch.stack([torch.cat([torch.zeros(1), angle]).cos(), torch.cat([torch.zeros(1), angle]).sin()], 1)
    pairs = PairBatch.from_embeddings(unit.double(), torch.tensor([0, 0, 1]))
    mined = Triplets(*torch.tensor([[0], [1], [2]]))
    loss = MarginLoss(alpha=0.1, beta=0.2, beta_mode='global').double()
    optimizer = torch.optim.SGD(loss.parameters(), lr=0.1)
    assert float(loss(pairs, mined).detach()) == pytest.approx(0.4, abs=1e-6)
    for _ in range(6):
        optimizer.zero_grad()
        loss(pairs, mined).backward()
        optimizer.step()
    assert float(loss(pairs, mined).detach()) == 0 and 0.6 <= float(loss.beta.detach()) < 0.8


@pytest.mark.parametrize('nu', [0.0, 0.1])
@pytest.mark.parametrize('seed', range(2))
def test_agrees_with_pytorch_metric_learning(seed, nu):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(3).repeat_interleave(4)
    raw = torch.randn(3, 8, generator=generator)[labels] + torch.randn(12, 8, generator=generator)
    ours, theirs = per_class(nu=nu), pml.MarginLoss(margin=0.2, nu=nu, learn_beta=True, num_classes=3)
    theirs.beta.data = torch.tensor(BETAS, dtype=torch.float64)
    values, gradients = [], []
    triplets = all_triplets(PairBatch.from_embeddings(normalize(raw), labels))
    for loss in (ours, theirs):
        x = raw.double().requires_grad_()
        pairs = PairBatch.from_embeddings(normalize(x), labels)
        values.append(loss(pairs, triplets) if loss is ours else loss(x, labels, triplets))
        gradients.append(torch.autograd.grad(values[-1], [x, loss.beta]))
    assert float(values[0].detach()) > 0 and gradients[0][1].abs().min() > 0
    torch.testing.assert_close(values[0], values[1], rtol=1e-6, atol=1e-7)
    for actual, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    'options, words',
    [
        (dict(beta_mode='learned'), "'class', 'constant', 'global'"),
        (dict(beta_mode='class'), 'needs num_classes, the number of training classes, got None'),
        (dict(nu=-1.0), 'nu must not be negative, got -1.0'),
    ],
)
def test_bad_options_name_what_would_be_right(options, words):
    with pytest.raises(ValueError, match=words):
        MODELS.build(dict(type='MarginLoss', **options))


def test_a_label_without_boundary_is_named():
    with pytest.raises(ValueError, match=r'num_classes=2, so labels must lie in 0\.\.1, got 2'):
        MarginLoss(beta_mode='class', num_classes=2)(batch())
