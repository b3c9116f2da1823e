"""Losses and miners in other spaces than cosine, and with targets in place of class labels."""

import math

import pytest
import torch
from torch.nn.functional import normalize
from toy_openings import ToyEuclideanSpace, ToyLabelSets, ToyPoincareBall

from mmdml.models.losses import ContrastiveLoss, MarginLoss, MultiSimilarityLoss, NPairsLoss, TripletLoss
from mmdml.registry import MODELS, TASK_UTILS
from mmdml.structures import PairBatch, Pairs, Rows, Triplets

#: Two labels each: images 0 and 1 share both, 0 and 2 share one of three, 3 shares none.
TABLE = [[1, 1, 0, 0, 0], [1, 1, 0, 0, 0], [1, 0, 1, 0, 0], [0, 0, 0, 1, 1]]
LABELS = torch.tensor([0, 0, 1, 1, 2, 2])
CONFIGS = dict(
    contrastive=dict(type='ContrastiveLoss'),
    euclidean=dict(type='ContrastiveLoss', pos_margin=0.6, neg_margin=1.1, distance='euclidean', reduction='mean'),
    triplet=dict(type='TripletLoss'),
    multi_similarity=dict(type='MultiSimilarityLoss'),
    margin=dict(type='MarginLoss', beta_mode='class', num_classes=3, nu=0.1),
    n_pairs=dict(type='NPairsLoss', scale=3.0),
    proxy_nca=dict(type='ProxyNCALoss', num_classes=3, embed_dim=4),
)
MINERS = [
    'MultiSimilarityMiner',
    'BatchHardMiner',
    'SemiHardMiner',
    'ClosestBeyondCutoffMiner',
    'DistanceWeightedMiner',
]
SPACES = [ToyEuclideanSpace(), ToyPoincareBall()]


def raw_rows(rows=6, seed=0):
    return torch.randn(rows, 4, generator=torch.Generator().manual_seed(seed)).requires_grad_()


def with_copies(raw, **options):
    """Anchors, and as candidates the anchors and a noisy copy of each."""
    noise = 0.2 * torch.randn(raw.shape, generator=torch.Generator().manual_seed(1))
    unit = normalize(torch.cat([raw, raw.detach() + noise]), dim=1)
    views = torch.arange(len(raw))
    return PairBatch(Rows(unit[: len(raw)], LABELS, views), Rows(unit, LABELS.repeat(2), views.repeat(2)), **options)


def soft_pairs(raw, **options):
    rows = Rows.of_batch(normalize(raw, dim=1), torch.arange(4), torch.arange(4))
    return PairBatch(rows, rows, targets=ToyLabelSets(TABLE)(rows, rows), **options)


def test_targets_of_label_sets():
    pairs = soft_pairs(raw_rows(4))
    assert pairs.positive_mask[0].tolist() == [False, True, True, False]
    assert pairs.negative_mask[0].tolist() == [False, False, False, True]
    positive, negative = pairs.weights()
    torch.testing.assert_close(positive[0], torch.tensor([0, 1, 1 / 3, 0]))
    torch.testing.assert_close(negative[0], torch.tensor([0, 0, 2 / 3, 1]))


def test_weights_of_mined_tuples_multiply_the_targets():
    pairs = soft_pairs(raw_rows(4))
    mined = Pairs(torch.tensor([0, 0, 0, 0]), torch.tensor([2, 2, 3, 0]), torch.tensor([1.0, 0.5, 2.0, 9.0]))
    positive, negative = pairs.weights(mined)
    torch.testing.assert_close(positive[0], torch.tensor([0, 0, 0.5, 0]))
    torch.testing.assert_close(negative[0], torch.tensor([0, 0, 1.0, 2.0]))
    positive, negative = pairs.weights(Triplets(*torch.tensor([[0, 0], [1, 2], [3, 3]])))
    torch.testing.assert_close(positive[0], torch.tensor([0, 1, 1 / 3, 0]))
    torch.testing.assert_close(negative[0], torch.tensor([0, 0, 2 / 3, 2]))


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64, torch.int64, torch.bool], ids=str)
@pytest.mark.parametrize(
    'name, miner', [(name, miner) for name in CONFIGS for miner in (None, *MINERS) if name != 'proxy_nca' or not miner]
)
def test_targets_of_zero_and_one_equal_the_labels_exactly(name, miner, dtype):
    torch.manual_seed(0)
    loss = MODELS.build(CONFIGS[name])
    targets = (LABELS[:, None] == LABELS.repeat(2)[None, :]).to(dtype)
    values = []
    for options in (dict(), dict(targets=targets)):
        raw = raw_rows()
        pairs = with_copies(raw, random=torch.Generator().manual_seed(3), **options)
        value = loss(pairs, TASK_UTILS.build(dict(type=miner))(pairs.detach()) if miner else None)
        values.append((value, torch.autograd.grad(value, raw)[0]))
    assert torch.equal(values[0][0], values[1][0]) and torch.equal(values[0][1], values[1][1])


def every_pair(pairs):
    for i in range(4):
        for j in range(4):
            if i != j:
                yield i, j, float(pairs.similarity[i, j]), float(pairs.targets[i, j])


def test_contrastive_and_margin_loss_of_soft_targets_equal_a_loop():
    pairs = soft_pairs(raw_rows(4).detach())
    total = sum(t * max(0.8 - s, 0) + (1 - t) * max(s - 0.5, 0) for _, _, s, t in every_pair(pairs))
    assert float(ContrastiveLoss()(pairs)) == pytest.approx(total / 4, rel=1e-6)
    mean = ContrastiveLoss(reduction='mean')(pairs)
    assert float(mean) == pytest.approx(total / 12, rel=1e-6)

    total = count = 0.0
    for _, _, s, t in every_pair(pairs):
        distance = math.sqrt(2 - 2 * s)
        for weight, term in ((t, distance - 1.2 + 0.2), (1 - t, 1.2 - distance + 0.2)):
            total += weight * max(term, 0)
            count += weight * (term > 0)
    assert float(MarginLoss()(pairs)) == pytest.approx(total / count, rel=1e-6)


def test_n_pairs_loss_of_soft_targets_is_a_cross_entropy_with_their_shares():
    pairs = soft_pairs(raw_rows(4).detach())
    values = []
    for i in range(4):
        row = [(s, t) for a, _, s, t in every_pair(pairs) if a == i]
        if sum(t for _, t in row):
            log_sum = math.log(sum(math.exp(3 * s) for s, _ in row))
            values.append(sum(t * (log_sum - 3 * s) for s, t in row) / sum(t for _, t in row))
    assert len(values) == 3
    loss = NPairsLoss(scale=3.0)
    assert float(loss(pairs).detach()) == pytest.approx(sum(values) / 3, rel=1e-6)


def test_multi_similarity_loss_of_soft_targets_weighs_the_exponentials():
    pairs = soft_pairs(raw_rows(4).detach())
    total = 0.0
    for i in range(3):  # Image 3 has no positive.
        row = [(s, t) for a, _, s, t in every_pair(pairs) if a == i]
        farthest, nearest = min(s for s, t in row if t), max(s for s, t in row if not t)
        mined = [(s, t) for s, t in row if (s - 9 < nearest if t else s + 9 > farthest)]
        total += math.log(1 + sum(t * math.exp(-2 * (s - 0.5)) for s, t in mined)) / 2
        total += math.log(1 + sum((1 - t) * math.exp(40 * (s - 0.5)) for s, t in mined)) / 40
    assert float(MultiSimilarityLoss(epsilon=9.0)(pairs)) == pytest.approx(total / 4, rel=1e-5)


@pytest.mark.parametrize('name', ['contrastive', 'euclidean', 'multi_similarity', 'n_pairs'])
def test_soft_targets_have_a_finite_gradient(name):
    raw = raw_rows(4)
    MODELS.build(CONFIGS[name])(soft_pairs(raw)).backward()
    assert torch.isfinite(raw.grad).all() and raw.grad.abs().sum() > 0


@pytest.mark.parametrize('miner', MINERS)
def test_miners_take_a_soft_target_for_a_positive(miner):
    pairs = soft_pairs(raw_rows(4).detach())
    mined = TASK_UTILS.build(dict(type=miner))(pairs)
    assert len(mined.anchor) > 0
    if isinstance(mined, Triplets):
        assert pairs.positive_mask[mined.anchor, mined.positive].all()
        assert pairs.negative_mask[mined.anchor, mined.negative].all()


def test_a_loss_that_cannot_use_soft_targets_refuses_them_by_name():
    with pytest.raises(ValueError, match='TripletLoss cannot use soft targets: each must be 0 or 1, got 0.3333'):
        TripletLoss()(soft_pairs(raw_rows(4)))
    proxies = MODELS.build(CONFIGS['proxy_nca'])
    with pytest.raises(ValueError, match='ProxyNCALoss cannot use soft targets'):
        proxies(soft_pairs(raw_rows(4)))
    several = with_copies(raw_rows(), targets=torch.ones(6, 12))
    with pytest.raises(ValueError, match='ProxyNCALoss uses class labels and cannot use targets that differ'):
        proxies(several)
    assert TripletLoss()(several) == 0  # Targets of several labels that are 0 and 1 are no obstacle.


@pytest.mark.parametrize('space', SPACES, ids=lambda space: type(space).__name__)
@pytest.mark.parametrize('miner', [None, 'BatchHardMiner', 'MultiSimilarityMiner', 'SemiHardMiner'])
@pytest.mark.parametrize('name', [name for name in CONFIGS if name != 'proxy_nca'])
def test_losses_descend_in_another_space(name, miner, space):
    loss = MODELS.build(dict(CONFIGS[name], **(dict(pos_margin=-0.1, neg_margin=-1) if name == 'contrastive' else {})))
    raw = raw_rows()
    optimizer = torch.optim.SGD([raw], lr=0.02)
    values = []
    for _ in range(15):
        rows = Rows.of_batch(0.9 * raw * torch.rsqrt(1 + raw.square().sum(1, keepdim=True)), LABELS)
        pairs = PairBatch(rows, rows, space=space)
        mined = TASK_UTILS.build(dict(type=miner))(pairs.detach()) if miner else None
        value = loss(pairs, mined)
        optimizer.zero_grad()
        value.backward()
        assert torch.isfinite(raw.grad).all()
        optimizer.step()
        values.append(float(value.detach()))
    assert values[-1] < values[0]


def test_the_margin_of_a_triplet_is_a_distance_of_the_space():
    # On a line, where no cosine differs: 0, 0.5 and 2, and on the radius of the ball.
    rows = Rows.of_batch(torch.tensor([[0.0, 0.0], [0.5, 0.0], [0.9, 0.0]]), torch.tensor([0, 0, 1]))
    mined = Triplets(*torch.tensor([[0], [1], [2]]))
    flat = TripletLoss(margin=1.0)(PairBatch(rows, rows, space=ToyEuclideanSpace()), mined)
    assert float(flat) == pytest.approx((0.5 - 0.9 + 1) / 3, abs=1e-5)
    curved = TripletLoss(margin=2.0)(PairBatch(rows, rows, space=ToyPoincareBall()), mined)
    # A point of radius r is 2 artanh(r) from the center.
    assert float(curved) == pytest.approx((2 * math.atanh(0.5) - 2 * math.atanh(0.9) + 2) / 3, abs=1e-4)


def test_what_holds_on_the_unit_sphere_only_refuses_another_space_by_name():
    rows = Rows.of_batch(normalize(raw_rows(), dim=1), LABELS)
    pairs = PairBatch(rows, rows, space=ToyEuclideanSpace())
    with pytest.raises(ValueError, match='ProxyNCALoss compares by cosine and cannot use ToyEuclideanSpace'):
        MODELS.build(CONFIGS['proxy_nca'])(pairs)
    with pytest.raises(ValueError, match='unit sphere and cannot use ToyEuclideanSpace'):
        TASK_UTILS.build(dict(type='DistanceWeightedMiner'))(pairs)
