"""The miners of the D&C papers: plain loops, frequencies of draws, and pytorch-metric-learning."""

import math
from collections import Counter

import pytest
import torch
from pytorch_metric_learning import miners as pml
from pytorch_metric_learning.utils import loss_and_miner_utils
from torch.nn.functional import normalize

from mmdml.models.losses import MarginLoss, TripletLoss
from mmdml.models.miners import ClosestBeyondCutoffMiner, DistanceWeightedMiner, SemiHardMiner
from mmdml.models.miners.distance_weighted_miner import draw_without_replacement, log_inverse_density
from mmdml.registry import TASK_UTILS
from mmdml.structures import PairBatch, Rows, Triplets

MINERS = [ClosestBeyondCutoffMiner(), DistanceWeightedMiner(), SemiHardMiner()]
each_miner = pytest.mark.parametrize('miner', MINERS, ids=lambda miner: type(miner).__name__)


def batch(seed=0, width=4):
    """Nine anchors of uneven classes, one of them alone; a near copy of each and two remembered rows beside them."""
    generator = torch.Generator().manual_seed(seed)
    raw = torch.randn(20, width, generator=generator)
    raw[9:18] = raw[:9] + 0.3 * raw[9:18]
    labels, views = torch.tensor([0, 0, 0, 0, 1, 1, 2, 2, 9]), torch.arange(9)
    unit = normalize(raw).requires_grad_()
    return PairBatch(
        Rows(unit[:9], labels, views),
        Rows(
            unit, torch.cat([labels, labels, torch.tensor([1, 5])]), torch.cat([views, views, torch.tensor([-1, -1])])
        ),
    )


def sides(pairs, i):
    """Positives and negatives of anchor i as (distance, candidate), in the order of the candidates."""
    positives, negatives = [], []
    for x in range(len(pairs.candidates)):
        if int(pairs.candidates.views[x, 0]) != int(pairs.anchors.views[i, 0]):
            same = pairs.candidates.labels[x] == pairs.anchors.labels[i]
            distance = math.sqrt(max(2 - 2 * float(pairs.similarity[i, x].detach()), 0))
            (positives if same else negatives).append((distance, x))
    return positives, negatives


def rows_of(mined):
    return list(zip(*(index.tolist() for index in mined), strict=True))


def fan(degrees, copies=1):
    """One anchor, `copies` times, and as candidates a positive beside it and a negative at each angle, in 2-D."""
    angle = torch.deg2rad(torch.tensor([1.0, *degrees], dtype=torch.float64))
    candidates = torch.stack([angle.cos(), angle.sin()], 1)
    anchors = torch.tensor([[1.0, 0.0]], dtype=torch.float64).repeat(copies, 1)
    views = torch.zeros(copies, dtype=torch.int64)
    labels = torch.arange(len(candidates))
    return PairBatch(Rows(anchors, torch.zeros_like(views), views), Rows(candidates, labels, labels + 1))


def degrees_of(distance):
    return math.degrees(2 * math.asin(distance / 2))


@each_miner
@pytest.mark.parametrize('seed', range(3))
def test_triplets_hold_a_positive_and_a_negative_of_their_anchor(miner, seed):
    pairs = batch(seed)
    mined = miner(pairs)
    assert isinstance(mined, Triplets) and len(mined.anchor) >= 8
    assert pairs.positive_mask[mined.anchor, mined.positive].all()
    assert pairs.negative_mask[mined.anchor, mined.negative].all()


@each_miner
def test_mining_leaves_the_graph_of_the_similarity_to_the_loss(miner):
    pairs = batch()
    mined = miner(pairs)
    (gradient,) = torch.autograd.grad(MarginLoss()(pairs, mined), pairs.candidates.embeddings)
    assert not any(index.requires_grad for index in mined) and gradient.abs().sum() > 0


@each_miner
@pytest.mark.parametrize('labels', [[0, 1, 2], [0, 0, 0], [0], []], ids=str)
def test_nothing_to_mine_gives_empty_index_tensors(miner, labels):
    pairs = PairBatch.from_embeddings(torch.eye(3)[: len(labels)], torch.tensor(labels, dtype=torch.int64))
    assert all(index.shape == (0,) and index.dtype == torch.int64 for index in miner(pairs))


@each_miner
def test_identical_images_of_several_classes_give_no_wrong_pair(miner):
    pairs = PairBatch.from_embeddings(normalize(torch.ones(8, 3)), torch.arange(2).repeat_interleave(4))
    mined = miner(pairs)
    # All negatives are nearer than the cutoff; the other two miners take them.
    expected = 0 if isinstance(miner, ClosestBeyondCutoffMiner) else 24
    assert len(mined.anchor) == expected
    assert pairs.positive_mask[mined.anchor, mined.positive].all()
    assert pairs.negative_mask[mined.anchor, mined.negative].all()


@pytest.mark.parametrize(
    'config, representation',
    [
        (dict(type='ClosestBeyondCutoffMiner'), 'ClosestBeyondCutoffMiner(cutoff=0.5)'),
        (
            dict(type='DistanceWeightedMiner', dim=7),
            "DistanceWeightedMiner(lower=0.5, upper=1.4, dim=7, fallback='uniform')",
        ),
        (dict(type='SemiHardMiner'), 'SemiHardMiner()'),
    ],
)
def test_miners_build_from_a_config_and_say_what_they_are(config, representation):
    assert repr(TASK_UTILS.build(config)) == representation


@pytest.mark.parametrize(
    'config, words',
    [
        (dict(type='ClosestBeyondCutoffMiner', cutoff=2.0), r'in \[0, 2\), got 2.0'),
        (dict(type='DistanceWeightedMiner', lower=1.5), 'got lower=1.5 and upper=1.4'),
        (dict(type='DistanceWeightedMiner', lower=0.0), 'got lower=0.0'),
        (dict(type='DistanceWeightedMiner', upper=2.1), 'upper=2.1'),
        (dict(type='DistanceWeightedMiner', dim=1), 'dim must be an integer of at least 2, got 1'),
        (dict(type='DistanceWeightedMiner', fallback='none'), "'skip', 'uniform'"),
    ],
)
def test_bad_options_name_what_would_be_right(config, words):
    with pytest.raises(ValueError, match=words):
        TASK_UTILS.build(config)


# ---- semi-hard ----


@pytest.mark.parametrize('seed', range(5))
def test_semi_hard_equals_a_loop(seed):
    pairs = batch(seed)
    expected = []
    for i in range(9):
        positives, negatives = sides(pairs, i)
        for to_positive, j in positives:
            farther = [entry for entry in negatives if entry[0] > to_positive]
            expected.append((i, j, min(farther)[1] if farther else max(negatives)[1]))
    assert sorted(rows_of(SemiHardMiner()(pairs))) == sorted(expected)


def test_semi_hard_takes_the_farthest_negative_where_all_are_nearer_and_never_an_equally_far_one():
    unit = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, -1.0], [0.6, 0.8], [-0.6, 0.8]])
    # Anchor 0: the positive at similarity 0; negatives at 0 (a tie), 0.6 and -0.6.
    views = torch.arange(5)
    labels = torch.tensor([0, 0, 1, 1, 1])
    assert rows_of(SemiHardMiner()(PairBatch(Rows(unit[:1], labels[:1], views[:1]), Rows(unit, labels, views)))) == [
        (0, 1, 4)
    ]
    nearer = PairBatch(Rows(unit[:1], labels[:1], views[:1]), Rows(unit[:4], labels[:4], views[:4]))
    assert rows_of(SemiHardMiner()(nearer)) == [(0, 1, 2)]


@pytest.mark.parametrize('seed', range(3))
def test_semi_hard_is_the_nearest_of_those_that_pytorch_metric_learning_calls_semi_hard(seed):
    raw = torch.randn(16, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    labels = torch.arange(4).repeat(4)
    pairs = PairBatch.from_embeddings(normalize(raw), labels)
    nearest = {}
    for a, p, n in rows_of(pml.TripletMarginMiner(margin=2.0, type_of_triplets='semihard')(raw, labels)):
        key = (float(pairs.similarity[a, n]), n)
        nearest[a, p] = max(nearest.get((a, p), key), key)
    mined = {(a, p): n for a, p, n in rows_of(SemiHardMiner()(pairs))}
    assert len(nearest) > 30 and len(mined) == 48
    assert all(mined[pair] == n for pair, (_, n) in nearest.items())


def test_semi_hard_triplet_loss_is_the_mean_hinge_over_positive_pairs():
    pairs = batch(3)
    terms = []
    for i in range(9):
        positives, negatives = sides(pairs, i)
        for to_positive, _ in positives:
            farther = [d for d, _ in negatives if d > to_positive] or [max(negatives)[0]]
            chosen = min(farther)
            terms.append(max(to_positive - chosen + 0.2, 0))
    value = TripletLoss(margin=0.2, reduction='mean')(pairs, SemiHardMiner()(pairs))
    assert sum(terms) > 0 and float(value.detach()) == pytest.approx(sum(terms) / len(terms), abs=1e-5)


# ---- closest beyond cutoff ----


@pytest.mark.parametrize('cutoff', [0.5, 1.2])
@pytest.mark.parametrize('seed', range(4))
def test_closest_beyond_cutoff_equals_a_loop(seed, cutoff):
    pairs = batch(seed)
    number = sum(len(sides(pairs, i)[0]) for i in range(9)) // 9
    expected = []
    for i in range(9):
        positives, negatives = sides(pairs, i)
        beyond = sorted(entry for entry in negatives if entry[0] >= cutoff)
        expected += [(i, j, k) for (_, j), (_, k) in zip(positives[:number], beyond[:number], strict=False)]
    assert number == 3 and rows_of(ClosestBeyondCutoffMiner(cutoff)(pairs)) == expected


def test_closest_beyond_cutoff_gives_fewer_triplets_where_negatives_beyond_it_run_out():
    # Two classes of four, all nearer than 0.5 but for one row of class 1.
    unit = torch.tensor([[1.0, 0.0]]).repeat(8, 1)
    unit[7] = torch.tensor([0.0, 1.0])
    mined = rows_of(ClosestBeyondCutoffMiner()(PairBatch.from_embeddings(unit, torch.arange(2).repeat_interleave(4))))
    assert [(a, n) for a, _, n in mined if a < 4] == [(a, 7) for a in range(4)]
    # Only row 7 of class 1 has negatives beyond the cutoff: all of class 0, of which it takes three.
    assert [a for a, _, _ in mined if a >= 4] == [7, 7, 7] and all(n < 4 for a, _, n in mined if a == 7)


def test_closest_beyond_cutoff_gives_a_triplet_where_most_anchors_are_alone():
    unit = normalize(torch.randn(6, 4, generator=torch.Generator().manual_seed(0)))
    mined = ClosestBeyondCutoffMiner(0.0)(PairBatch.from_embeddings(unit, torch.tensor([0, 0, 1, 2, 3, 4])))
    assert mined.anchor.tolist() == [0, 1]


# ---- distance-weighted ----


@pytest.mark.parametrize(
    'dim, ratio', [(16, 9.5e-2), (32, 6.5e-3), (64, 3.1e-5), (128, 6.8e-10)], ids=lambda value: str(value)
)
def test_weight_ratio_of_two_near_distances(dim, ratio):
    log_weight = log_inverse_density(torch.tensor([0.5, 0.6], dtype=torch.float64), dim)
    assert math.exp(log_weight[1] - log_weight[0]) == pytest.approx(ratio, rel=0.02)


def test_log_inverse_density_by_hand():
    # n = 5: D^-3 (1 - D^2 / 4)^-1; n = 3: distances have density proportional to D.
    distance = torch.tensor([0.5, 1.0, 1.4], dtype=torch.float64)
    torch.testing.assert_close(log_inverse_density(distance, 5).exp(), distance**-3 / (1 - distance**2 / 4))
    torch.testing.assert_close(log_inverse_density(distance, 3).exp(), 1 / distance)


@pytest.mark.parametrize('dim', [4, 16])
def test_draws_are_as_frequent_as_one_over_q(dim):
    torch.manual_seed(dim)
    # Nearer than the lower limit twice, between the limits, at the upper limit and far beyond.
    distances = [0.2, 0.45, 0.6, 0.8, 1.1, 1.39, 1.42, 1.9]
    copies = 40000
    pairs = fan([degrees_of(d) for d in distances], copies)
    mined = DistanceWeightedMiner(dim=dim)(pairs)
    assert len(mined.anchor) == copies and (mined.positive == 0).all()
    counts = torch.bincount(mined.negative, minlength=9)[1:]
    clipped = torch.tensor([max(d, 0.5) for d in distances], dtype=torch.float64)
    weight = clipped ** (2 - dim) * (1 - clipped**2 / 4) ** ((3 - dim) / 2)
    weight[6:] = 0
    expected = copies * weight / weight.sum()
    # Binomial counts: five standard deviations, and a little for expectations near 0.
    assert ((counts - expected).abs() <= 5 * expected.sqrt() + 2).all()
    assert (counts[6:] == 0).all() and counts[0] > 1000 and counts[2] > 500


def test_draws_without_replacement_go_on_among_those_that_are_left():
    torch.manual_seed(0)
    weight = torch.tensor([6.0, 3.0, 1.0, 0.0])
    columns, drawn = draw_without_replacement(weight.log().repeat(30000, 1), 4)
    assert drawn.all(0).tolist() == [True, True, True, False] and not drawn[:, 3].any()
    counts = Counter(map(tuple, columns[:, :2].tolist()))
    for (first, second), count in counts.items():
        probability = weight[first] / 10 * weight[second] / (10 - weight[first])
        assert abs(count - 30000 * probability) < 5 * (30000 * probability) ** 0.5
    assert len(counts) == 6


@pytest.mark.parametrize('fallback', ['skip', 'uniform'])
def test_weights_are_exactly_zero_for_self_class_excluded_rows_and_beyond_the_limit(fallback):
    pairs = batch(5)
    miner = DistanceWeightedMiner(lower=0.6, upper=1.3, fallback=fallback)
    possible = miner.log_weights(pairs) > float('-inf')
    for i in range(9):
        _, negatives = sides(pairs, i)
        assert possible[i].nonzero().flatten().tolist() == [x for distance, x in negatives if distance < 1.3]
    for repeat in range(20):
        torch.manual_seed(repeat)
        mined = miner(pairs)
        assert possible[mined.anchor, mined.negative].all()


def test_dimension_is_the_width_of_the_compared_vectors_unless_given():
    pairs = batch(width=6)
    torch.testing.assert_close(
        DistanceWeightedMiner().log_weights(pairs), DistanceWeightedMiner(dim=6).log_weights(pairs)
    )
    assert not DistanceWeightedMiner(dim=7).log_weights(pairs).equal(DistanceWeightedMiner().log_weights(pairs))


def test_every_anchor_gets_as_many_negatives_as_anchors_have_positives_on_average():
    # Classes of 5, 3 and 1: (5 x 4 + 3 x 2) / 9 = 2.9 positives on average.
    labels = torch.tensor([0] * 5 + [1] * 3 + [2])
    raw = torch.randn(9, 8, generator=torch.Generator().manual_seed(1)) + 1
    pairs = PairBatch.from_embeddings(normalize(raw), labels)
    torch.manual_seed(0)
    mined = DistanceWeightedMiner(upper=2.0)(pairs)
    assert mined.anchor.tolist() == [i for i in range(8) for _ in range(3)]
    rows = rows_of(mined)
    for i in range(8):
        positives = [p for a, p, _ in rows if a == i]
        assert len({n for a, _, n in rows if a == i}) == 3
        # Three of four positives; or both of two, one of them twice.
        assert len(set(positives)) == (3 if i < 5 else 2)


def test_all_positives_are_used_before_one_is_repeated():
    # Class 0 has three rows and class 1 nine: (3 x 2 + 9 x 8) / 12 = 6.5, rounded to even.
    labels = torch.tensor([0] * 3 + [1] * 9)
    unit = normalize(torch.randn(12, 8, generator=torch.Generator().manual_seed(2)) + 1)
    repeats = set()
    for seed in range(8):
        torch.manual_seed(seed)
        rows = rows_of(DistanceWeightedMiner(upper=2.0)(PairBatch.from_embeddings(unit, labels)))
        counts = Counter(p for a, p, _ in rows if a == 0)
        assert sum(counts.values()) == 6 and set(counts) == {1, 2}
        repeats.add(counts[1])
        # Class 1 has three negatives only, so three triplets, of positives that differ.
        assert len({p for a, p, _ in rows if a == 5}) == len([a for a, _, _ in rows if a == 5]) == 3
    # Which positive is repeated is drawn anew every time.
    assert repeats & {2, 3, 4} and len(repeats) > 2


def test_an_anchor_with_few_admissible_negatives_gives_few_triplets():
    unit = torch.eye(6)
    unit[4] = normalize(unit[0] + unit[4], dim=0)
    # Row 4 is at 0.77 of row 0; everything else is at sqrt 2, beyond 1.4. Three positives for each of four anchors.
    pairs = PairBatch.from_embeddings(unit, torch.tensor([0, 0, 0, 0, 1, 1]))
    rows = rows_of(DistanceWeightedMiner(fallback='skip')(pairs))
    assert sorted((a, n) for a, _, n in rows) == [(0, 4), (4, 0)]


@pytest.mark.parametrize('fallback, triplets', [('skip', 0), ('uniform', 4)])
def test_an_anchor_without_admissible_negative_does_as_the_fallback_says(fallback, triplets):
    miner = DistanceWeightedMiner(fallback=fallback)
    mined = miner(PairBatch.from_embeddings(torch.eye(4), torch.tensor([0, 0, 1, 1])))
    assert len(mined.anchor) == triplets


def test_the_uniform_fallback_is_uniform_over_other_classes():
    torch.manual_seed(0)
    pairs = fan([100.0, 130.0, 180.0], copies=9000)
    counts = torch.bincount(DistanceWeightedMiner()(pairs).negative, minlength=4)
    assert counts[0] == 0 and ((counts[1:] - 3000).abs() < 5 * 3000**0.5).all()


@pytest.mark.parametrize('width', [2, 128, 2048])
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float32])
def test_weights_are_finite_or_zero_in_every_width_and_precision(width, dtype):
    unit = normalize(torch.randn(12, width, generator=torch.Generator().manual_seed(3)))
    unit[1], unit[4], unit[6] = unit[0], -unit[0], unit[0]
    pairs = PairBatch.from_embeddings(unit.to(dtype), torch.arange(4).repeat_interleave(3))
    for upper in (1.4, 2.0):
        log_weight = DistanceWeightedMiner(upper=upper)(pairs), DistanceWeightedMiner(upper=upper).log_weights(pairs)
        assert not log_weight[1].isnan().any() and (log_weight[1] < float('inf')).all()
        assert len(log_weight[0].anchor) > 0


def test_the_nearest_negative_wins_in_2048_dimensions_and_all_have_a_chance_in_16():
    pairs = fan([degrees_of(d) for d in (0.9, 1.0, 1.1)], copies=2000)
    torch.manual_seed(0)
    wide = torch.bincount(DistanceWeightedMiner(dim=2048)(pairs).negative, minlength=4)
    narrow = torch.bincount(DistanceWeightedMiner(dim=16)(pairs).negative, minlength=4)
    assert wide.tolist() == [0, 2000, 0, 0] and (narrow[1:] > 20).all()


def test_draws_are_those_of_the_global_generator():
    pairs = batch(2)
    draws = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        draws.append(rows_of(DistanceWeightedMiner()(pairs)))
    assert draws[0] == draws[1] != draws[2]


@pytest.mark.parametrize('seed', range(2))
def test_weights_agree_with_pytorch_metric_learning(seed, monkeypatch):
    seen = []
    monkeypatch.setattr(
        loss_and_miner_utils,
        'get_random_triplet_indices',
        lambda *args, weights, **options: seen.append(weights) or (torch.arange(1),) * 3,
    )
    raw = torch.randn(12, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    labels = torch.arange(4).repeat(3)
    pml.DistanceWeightedMiner(cutoff=0.5, nonzero_loss_cutoff=1.4)(raw, labels)
    ours = DistanceWeightedMiner().log_weights(PairBatch.from_embeddings(normalize(raw), labels)).softmax(1)
    assert (ours > 0).sum() > 40
    torch.testing.assert_close(ours, seen[0], rtol=1e-9, atol=1e-12)
