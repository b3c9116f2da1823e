"""Every pair loss against a plain loop over anchors, and the invariants that they share."""

import math

import pytest
import torch
from torch.nn.functional import normalize

from mmdml.models.losses import ContrastiveLoss, MultiSimilarityLoss, PairLoss, TripletLoss
from mmdml.models.miners import BatchHardMiner, MultiSimilarityMiner
from mmdml.registry import MODELS
from mmdml.structures import PairBatch, Pairs, Rows, Space, Triplets


def with_copies(unit, labels, copies=0, noise=0.0, seed=0):
    """Anchors, and as candidates the anchors and `copies` noisy copies of each."""
    generator = torch.Generator().manual_seed(seed)
    shape = (copies, *unit.shape)
    extra = normalize(unit + noise * torch.randn(shape, generator=generator, dtype=unit.dtype), dim=-1)
    views = torch.arange(len(unit))
    candidates = torch.cat([unit, extra.reshape(-1, unit.shape[1])])
    return PairBatch(Rows(unit, labels, views), Rows(candidates, labels.repeat(1 + copies), views.repeat(1 + copies)))


def random_batch(seed, copies=2, rows=14, dim=6, dtype=torch.float64):
    """Uneven classes: some anchors are alone, some are easy, one row occurs twice."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 6, (rows,), generator=generator)
    centers = torch.randn(6, dim, generator=generator, dtype=dtype)
    unit = normalize(centers[labels] + 0.8 * torch.randn(rows, dim, generator=generator, dtype=dtype))
    unit[1] = unit[0]
    labels[1] = labels[0]
    labels[2] = 99
    return with_copies(unit.requires_grad_(), labels, copies, noise=0.2, seed=seed)


def partners(pairs, i):
    """Positive and negative similarities of anchor i, one candidate at a time."""
    positives, negatives = [], []
    for x in range(len(pairs.candidates)):
        if int(pairs.candidates.views[x, 0]) == int(pairs.anchors.views[i, 0]):
            continue
        similarity = float(pairs.anchors.embeddings[i].detach() @ pairs.candidates.embeddings[x].detach())
        same = int(pairs.candidates.labels[x]) == int(pairs.anchors.labels[i])
        (positives if same else negatives).append(similarity)
    return positives, negatives


def distance(similarity):
    return math.sqrt(max(2 - 2 * similarity, 0.0))


def contrastive_loop(pairs, mean=False):
    total, count = 0.0, 0
    for i in range(len(pairs.anchors)):
        positives, negatives = partners(pairs, i)
        total += sum(max(0.8 - s, 0) for s in positives) + sum(max(s - 0.5, 0) for s in negatives)
        count += len(positives) + len(negatives)
    return total / (count if mean else len(pairs.anchors))


def euclidean_contrastive_loop(pairs):
    total = 0.0
    for i in range(len(pairs.anchors)):
        positives, negatives = partners(pairs, i)
        total += sum(max(distance(s) - 0.6, 0) for s in positives) + sum(max(1.1 - distance(s), 0) for s in negatives)
    return total / len(pairs.anchors)


def triplet_loop(pairs, mean=False):
    total, count = 0.0, 0
    for i in range(len(pairs.anchors)):
        positives, negatives = partners(pairs, i)
        if negatives:
            nearest = min(distance(s) for s in negatives)
            total += sum(max(distance(s) - nearest + 0.2, 0) for s in positives)
            count += len(positives)
    return total / (count if mean else len(pairs.anchors))


def multi_similarity_loop(pairs):
    total = 0.0
    for i in range(len(pairs.anchors)):
        positives, negatives = partners(pairs, i)
        positives = [s for s in positives if s < 1 - 1e-5]
        if not positives or not negatives:
            continue
        hard_negatives = [s for s in negatives if s + 0.1 > min(positives)]
        hard_positives = [s for s in positives if s - 0.1 < max(negatives)]
        if not hard_negatives or not hard_positives:
            continue
        total += math.log(1 + sum(math.exp(-2 * (s - 0.5)) for s in hard_positives)) / 2
        total += math.log(1 + sum(math.exp(40 * (s - 0.5)) for s in hard_negatives)) / 40
    return total / len(pairs.anchors)


LOOPS = {
    'contrastive paper': (ContrastiveLoss(), contrastive_loop),
    'contrastive mean': (ContrastiveLoss(reduction='mean'), lambda pairs: contrastive_loop(pairs, mean=True)),
    'contrastive euclidean': (ContrastiveLoss(0.6, 1.1, distance='euclidean'), euclidean_contrastive_loop),
    'triplet paper': (TripletLoss(), triplet_loop),
    'triplet mean': (TripletLoss(reduction='mean'), lambda pairs: triplet_loop(pairs, mean=True)),
    'multi-similarity': (MultiSimilarityLoss(), multi_similarity_loop),
}
LOSSES = [
    ContrastiveLoss(),
    ContrastiveLoss(0.6, 1.1, distance='euclidean', reduction='mean'),
    TripletLoss(),
    TripletLoss(reduction='mean'),
    MultiSimilarityLoss(),
]
each_loss = pytest.mark.parametrize('loss', LOSSES, ids=str)


def golden_pairs(copies):
    """Rows at 0, 60, 90 and 10 degrees; copies without noise."""
    angle = torch.deg2rad(torch.tensor([0.0, 60.0, 90.0, 10.0], dtype=torch.float64))
    unit = torch.stack([angle.cos(), angle.sin()], 1).requires_grad_()
    return with_copies(unit, torch.tensor([0, 0, 1, 1]), copies)


GOLDEN = {
    0: (0.959986, 0.866662, 0.996813, 0.996813),
    1: (1.919973, 1.111703, 1.993626, 0.996813),
    3: (3.839945, 1.402773, 3.987251, 0.996813),
}


@pytest.mark.parametrize('copies', GOLDEN)
def test_golden_values_of_four_directions(copies):
    losses = (ContrastiveLoss(), MultiSimilarityLoss(), TripletLoss(margin=0.2), TripletLoss(0.2, reduction='mean'))
    values = [float(loss(golden_pairs(copies)).detach()) for loss in losses]
    assert values == pytest.approx(GOLDEN[copies], abs=1e-6)


@pytest.mark.parametrize(
    'loss, factor',
    [
        (ContrastiveLoss(), 4),
        (TripletLoss(), 4),
        (TripletLoss(reduction='mean'), 1),
        (ContrastiveLoss(reduction='mean'), 1),
    ],
    ids=str,
)
def test_noiseless_copies_scale_value_and_gradient(loss, factor):
    values, gradients = [], []
    for copies in (0, 3):
        # Gradient by the raw embedding, as in training: a unit row and its copies move together.
        raw = torch.randn(9, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(3)).requires_grad_()
        pairs = with_copies(normalize(raw), torch.tensor([0, 0, 0, 1, 1, 1, 2, 2, 2]), copies)
        value = loss(pairs)
        values.append(value.detach())
        gradients.append(torch.autograd.grad(value, raw)[0])
    assert float(values[0]) > 0
    torch.testing.assert_close(values[1], factor * values[0])
    torch.testing.assert_close(gradients[1], factor * gradients[0])


def test_noiseless_copies_multiply_the_exponentials_of_multi_similarity():
    pairs = golden_pairs(0)
    similarity = pairs.similarity.detach()
    # In the golden batch every anchor keeps its one positive and at least one negative.
    positives, negatives = (mask.double() for mask in _mined_masks(pairs))
    expected = 0.0
    for i in range(4):
        positive_sum = float((positives[i] * torch.exp(-2 * (similarity[i] - 0.5))).sum())
        negative_sum = float((negatives[i] * torch.exp(40 * (similarity[i] - 0.5))).sum())
        expected += math.log(1 + 4 * positive_sum) / 2 + math.log(1 + 4 * negative_sum) / 40
    assert float(MultiSimilarityLoss()(golden_pairs(3)).detach()) == pytest.approx(expected / 4, abs=1e-9)


def _mined_masks(pairs):
    anchor, candidate, _ = MultiSimilarityMiner()(pairs)
    mined = torch.zeros_like(pairs.positive_mask)
    mined[anchor, candidate] = True
    return mined & pairs.positive_mask, mined & pairs.negative_mask


@pytest.mark.parametrize('seed', range(4))
@pytest.mark.parametrize('copies', [0, 2])
@pytest.mark.parametrize('name', LOOPS)
def test_equals_a_loop_over_anchors(name, copies, seed):
    loss, loop = LOOPS[name]
    pairs = random_batch(seed, copies)
    # The distance is 1e-6 at equal rows, so a batch with twins may differ by that much.
    assert float(loss(pairs).detach()) == pytest.approx(loop(pairs), abs=1e-6)


def test_random_batches_hold_skipped_anchors_and_near_duplicates():
    pairs = random_batch(0, 0)
    positives, _ = _mined_masks(pairs)
    assert not positives[2].any() and not pairs.positive_mask[2].any()
    assert pairs.positive_mask[0, 1] and pairs.similarity[0, 1] > 1 - 1e-5 and not positives[0, 1]


@each_loss
def test_order_of_candidates_does_not_matter(loss):
    pairs = random_batch(5)
    order = torch.randperm(len(pairs.candidates), generator=torch.Generator().manual_seed(1))
    shuffled = PairBatch(pairs.anchors, pairs.candidates[order])
    torch.testing.assert_close(loss(shuffled), loss(pairs), rtol=1e-12, atol=1e-12)


@each_loss
def test_gradient_is_that_of_the_value(loss):
    labels = torch.tensor([0, 0, 0, 1, 1, 2, 2, 3])

    def of_raw(raw):
        return loss(with_copies(normalize(raw), labels, copies=1, noise=0.3))

    raw = torch.randn(8, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(2)).requires_grad_()
    assert float(of_raw(raw).detach()) > 0
    assert torch.autograd.gradcheck(of_raw, (raw,))


@pytest.mark.parametrize('copies', [0, 3])
def test_candidate_counts_of_a_p_by_k_batch(copies):
    classes, per_class = 5, 4
    labels = torch.arange(classes).repeat_interleave(per_class)
    pairs = with_copies(normalize(torch.randn(20, 8)), labels, copies, noise=0.1)
    assert (pairs.positive_mask.sum(1) == (per_class - 1) * (1 + copies)).all()
    assert (pairs.negative_mask.sum(1) == (20 - per_class) * (1 + copies)).all()


@pytest.mark.parametrize('loss', [TripletLoss(), MultiSimilarityLoss()], ids=str)
def test_lone_image_contributes_nothing(loss):
    unit = normalize(torch.randn(5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))
    labels = torch.tensor([0, 0, 1, 1, 2])
    together = PairBatch.from_embeddings(unit, labels)
    views = torch.arange(5)
    without = PairBatch(Rows(unit[:4], labels[:4], views[:4]), Rows(unit, labels, views))
    assert float(together.positive_mask[4].sum()) == 0
    torch.testing.assert_close(5 * loss(together), 4 * loss(without))


@each_loss
@pytest.mark.parametrize('rows', [2, 3, 7, 16])
def test_one_loss_takes_batches_of_any_size(loss, rows):
    pairs = random_batch(1, copies=3, rows=max(rows, 3))
    anchors = slice(0, rows)
    fewer = PairBatch(pairs.anchors[anchors], pairs.candidates)
    value = loss(fewer)
    assert value.shape == () and torch.isfinite(value)


@each_loss
@pytest.mark.parametrize(
    'labels', [[0, 1, 2, 3], [4, 4, 4, 4], [7], []], ids=['no positives', 'no negatives', 'one row', 'empty']
)
def test_batch_without_loss_gives_a_zero_with_a_graph(loss, labels):
    unit = torch.eye(4, 6)[: len(labels)].requires_grad_()
    pairs = PairBatch.from_embeddings(unit, torch.tensor(labels, dtype=torch.int64))
    if labels == [4, 4, 4, 4] and isinstance(loss, ContrastiveLoss):
        pairs = PairBatch.from_embeddings(torch.ones(4, 1).requires_grad_(), torch.tensor(labels))
        unit = pairs.anchors.embeddings
    value = loss(pairs)
    value.backward()
    assert float(value.detach()) == 0
    assert unit.grad is not None and (unit.grad == 0).all()
    assert not loss(pairs).isnan()


@each_loss
def test_no_candidates_at_all_gives_a_zero(loss):
    unit = torch.eye(2, 3).requires_grad_()
    none = torch.zeros(0, dtype=torch.int64)
    pairs = PairBatch(Rows(unit, torch.tensor([0, 1]), torch.tensor([0, 1])), Rows(unit[:0], none, none))
    value = loss(pairs)
    value.backward()
    assert float(value.detach()) == 0 and (unit.grad == 0).all()


@each_loss
@pytest.mark.parametrize('kind', ['zeros', 'duplicates'])
def test_degenerate_rows_give_finite_value_and_gradient(loss, kind):
    raw = torch.zeros(6, 4) if kind == 'zeros' else torch.ones(6, 4)
    raw.requires_grad_()
    value = loss(with_copies(normalize(raw), torch.tensor([0, 0, 0, 1, 1, 1]), copies=2))
    value.backward()
    assert torch.isfinite(value) and torch.isfinite(raw.grad).all()


@each_loss
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_equals_fp32_of_the_rounded_rows(loss, dtype):
    rounded = random_batch(3, copies=0, dtype=torch.float32).anchors.embeddings.detach().to(dtype).requires_grad_()
    labels = torch.arange(14) // 3
    value = loss(PairBatch.from_embeddings(rounded, labels))
    expected = loss(PairBatch.from_embeddings(rounded.detach().float(), labels))
    assert value.dtype == torch.float32 and torch.isfinite(value)
    assert torch.equal(value.detach(), expected)
    value.backward()
    assert torch.isfinite(rounded.grad).all() and rounded.grad.abs().sum() > 0


@each_loss
def test_autocast_changes_nothing(loss):
    pairs = random_batch(4, dtype=torch.float32)
    expected = loss(pairs).detach()
    with torch.autocast('cpu', torch.bfloat16):
        value = loss(random_batch(4, dtype=torch.float32))
    assert value.dtype == torch.float32 and torch.equal(value.detach(), expected)


def test_multi_similarity_does_not_overflow_at_a_large_beta():
    unit = torch.ones(4, 1).requires_grad_()
    pairs = PairBatch.from_embeddings(unit, torch.tensor([0, 0, 1, 1]))
    mined = Pairs(torch.tensor([0]), torch.tensor([2]))
    value = MultiSimilarityLoss(beta=1000.0)(pairs, mined)
    value.backward()
    # ln(1 + e^500) / 1000, over 4 anchors.
    assert float(value.detach()) == pytest.approx(0.125, abs=1e-6) and torch.isfinite(unit.grad).all()


@each_loss
def test_every_anchor_has_the_gradient_that_it_has_alone(loss):
    pairs = random_batch(6, copies=1)
    candidates = pairs.candidates.embeddings.detach()
    (gradient,) = torch.autograd.grad(loss(pairs), pairs.similarity)
    active = gradient != 0
    assert active.any() and not (active & pairs.excluded_mask).any()
    for i in range(len(pairs.anchors)):
        leaf = candidates.clone().requires_grad_()
        row = slice(i, i + 1)
        one = PairBatch(
            Rows(pairs.anchors.embeddings[row].detach(), pairs.anchors.labels[row], pairs.anchors.views[row]),
            Rows(leaf, pairs.candidates.labels, pairs.candidates.views),
        )
        loss(one).backward()
        assert torch.equal(leaf.grad.abs().sum(1) > 0, active[i])


@pytest.mark.parametrize('miner', [MultiSimilarityMiner(), BatchHardMiner()], ids=str)
@each_loss
def test_the_gradient_with_mined_tuples_reaches_no_other_pairs(loss, miner):
    pairs = random_batch(7)
    mined = miner(pairs)
    positive, negative = pairs.weights(mined)
    (gradient,) = torch.autograd.grad(loss(pairs, mined), pairs.similarity)
    active = gradient != 0
    assert active.any() and not (active & (positive + negative == 0)).any()


def test_multi_similarity_mines_what_its_miner_mines():
    pairs = random_batch(8)
    loss = MultiSimilarityLoss()
    torch.testing.assert_close(loss(pairs, MultiSimilarityMiner()(pairs)), loss(pairs), rtol=1e-12, atol=0)


def test_weights_multiply_contrastive_terms():
    pairs = random_batch(9)
    anchor, candidate = (pairs.positive_mask | pairs.negative_mask).nonzero(as_tuple=True)
    loss = ContrastiveLoss()
    weight = torch.full((len(anchor),), 2.5, dtype=torch.float64)
    torch.testing.assert_close(loss(pairs, Pairs(anchor, candidate)), loss(pairs))
    torch.testing.assert_close(loss(pairs, Pairs(anchor, candidate, weight)), 2.5 * loss(pairs))
    repeated = Pairs(anchor.repeat(2), candidate.repeat(2))
    torch.testing.assert_close(loss(pairs, repeated), 2 * loss(pairs))


def test_weights_multiply_the_exponentials_of_multi_similarity():
    pairs = random_batch(9, copies=0)
    i, j, k = 3, int(pairs.positive_mask[3].nonzero()[0]), int(pairs.negative_mask[3].nonzero()[0])
    mined = Pairs(torch.tensor([i, i]), torch.tensor([j, k]), torch.tensor([3.0, 0.5], dtype=torch.float64))
    s = pairs.similarity.detach()
    expected = math.log(1 + 3 * math.exp(-2 * (s[i, j] - 0.5))) / 2
    expected += math.log(1 + 0.5 * math.exp(40 * (s[i, k] - 0.5))) / 40
    assert float(MultiSimilarityLoss()(pairs, mined).detach()) == pytest.approx(expected / 14, abs=1e-9)


def test_triplet_loss_uses_exactly_the_given_triplets():
    pairs = random_batch(10, copies=0)
    positives, negatives = pairs.positive_mask.nonzero(), pairs.negative_mask.nonzero()
    rows = [(i, j, k) for i, j in positives.tolist() for h, k in negatives.tolist() if h == i][::7]
    mined = Triplets(*torch.tensor(rows + rows[:1]).t())
    s = pairs.similarity.detach()
    terms = [max(distance(s[i, j]) - distance(s[i, k]) + 0.2, 0) for i, j, k in rows + rows[:1]]
    assert sum(terms) > 0
    assert float(TripletLoss()(pairs, mined).detach()) == pytest.approx(sum(terms) / 14, abs=1e-6)
    mean = TripletLoss(reduction='mean')(pairs, mined)
    assert float(mean.detach()) == pytest.approx(sum(terms) / len(terms), abs=1e-6)


def test_triplet_loss_sets_mined_positives_against_the_hardest_mined_negative():
    pairs = random_batch(11, copies=0)
    s = pairs.similarity.detach()
    i = 3
    j = int(pairs.positive_mask[i].nonzero()[0])
    easy = s[i].masked_fill(~pairs.negative_mask[i], 9).topk(2, largest=False).indices.tolist()
    mined = Pairs(torch.tensor([i, i, i]), torch.tensor([j, *easy]), torch.tensor([2.0, 1.0, 1.0]))
    nearest = min(distance(s[i, k]) for k in easy)
    expected = 2 * max(distance(s[i, j]) - nearest + 1.9, 0) / 14
    assert expected > 0
    assert float(TripletLoss(margin=1.9)(pairs, mined).detach()) == pytest.approx(expected, abs=1e-6)


def test_the_distance_of_unit_vectors_is_euclidean_and_flat_at_zero():
    x = normalize(torch.randn(5, 3, dtype=torch.float64))
    expected = torch.cdist(x, x).fill_diagonal_(1e-6)
    actual = Space().distance((x @ x.t()).fill_diagonal_(1.0))
    torch.testing.assert_close(actual, expected, atol=1e-7, rtol=0)
    one = torch.ones((), requires_grad=True)
    Space().distance(one).backward()
    assert one.grad == 0


@pytest.mark.parametrize(
    'config, words',
    [
        (dict(type='ContrastiveLoss', reduction='total'), "'mean', 'nonzero', 'paper'"),
        (dict(type='ContrastiveLoss', distance='manhattan'), "'cosine', 'euclidean'"),
        (dict(type='TripletLoss', reduction='sum'), "'mean', 'nonzero', 'paper'"),
        (dict(type='MultiSimilarityLoss', alpha=0), 'alpha and beta must be positive'),
    ],
)
def test_bad_options_name_what_would_be_right(config, words):
    with pytest.raises(ValueError, match=words):
        MODELS.build(config)


@pytest.mark.parametrize('name', ['ContrastiveLoss', 'TripletLoss', 'MultiSimilarityLoss'])
def test_losses_build_from_a_config(name):
    loss = MODELS.build(dict(type=name))
    assert isinstance(loss, PairLoss) and type(loss).__name__ == name
    assert float(loss(random_batch(0)).detach()) > 0


@pytest.mark.parametrize('weight', [1e-3, 1e-4, 1e-6, 1e-8, 1e-12, 1e-30])
def test_small_weights_of_near_pairs_are_not_lost_in_the_multi_similarity_loss(weight):
    raw = torch.tensor([[1.0, 0.0], [1.0, 0.01], [0.999, 0.02], [0.0, 1.0]], dtype=torch.float64)
    labels, mined = torch.tensor([0, 1, 0, 2]), torch.full((4, 4), weight, dtype=torch.float64)

    def loss(rows, alpha=20.0, beta=40.0, base=0.5):
        pairs = PairBatch.from_embeddings(normalize(rows), labels)
        return MultiSimilarityLoss(alpha, beta, base)(pairs, mined)

    s = normalize(raw) @ normalize(raw).t()
    expected = 0
    for i in range(4):
        for sign, sharpness in ((-1, 20.0), (1, 40.0)):
            others = [j for j in range(4) if j != i and (labels[i] == labels[j]) == (sign < 0)]
            terms = sum(weight * math.exp(sign * sharpness * (s[i, j].item() - 0.5)) for j in others)
            expected += math.log1p(terms) / sharpness / 4
    for dtype in (torch.float32, torch.float64):
        rows = raw.to(dtype).requires_grad_()
        value = loss(rows)
        value.backward()
        assert value.item() == pytest.approx(expected, rel=1e-3, abs=1e-7) and rows.grad.isfinite().all()
