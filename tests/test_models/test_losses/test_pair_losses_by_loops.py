"""Losses over pairs: plain loops over numbers, gradients by differences, and values by hand."""

import math

import pytest
import torch
from torch.nn.functional import normalize

from mmdml.models.losses import pair_sums
from mmdml.registry import MODELS
from mmdml.structures import PairBatch, Pairs, Rows, Space

# ---- plain loops: similarities s[i][j], weights of positives p[i][j] and of negatives n[i][j] ------------------------


def dot(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True))


def sigmoid(x):
    return 1 / (1 + math.exp(-x)) if x > -700 else 0.0


def distance(s):
    return math.sqrt(max(2 - 2 * s, 0) + 1e-12)


def positives(p):
    return [(i, j, w) for i, row in enumerate(p) for j, w in enumerate(row) if w]


def mean_over_positives(p, term):
    found = positives(p)
    return sum(w * term(i, j) for i, j, w in found) / sum(w for _, _, w in found)


def mean_over_anchors(p, term):
    """Over those that have a positive."""
    with_positive = [i for i, row in enumerate(p) if any(row)]
    return sum(term(i) for i in with_positive) / len(with_positive)


def mean_over_contested(p, n, term):
    """Over the anchors that have a positive and a negative."""
    both = [i for i in range(len(p)) if any(p[i]) and any(n[i])]
    return sum(term(i) for i in both) / len(both)


def nt_xent(s, p, n, temperature=0.3, **_):
    def term(i, j):
        return math.log1p(sum(w * math.exp((s[i][k] - s[i][j]) / temperature) for k, w in enumerate(n[i])))

    return mean_over_positives(p, term)


def sup_con(s, p, n, temperature=0.3, **_):
    def term(i):
        total = sum((p[i][k] + n[i][k]) * math.exp(s[i][k] / temperature) for k in range(len(s[i])))
        shares = [(w / sum(p[i]), s[i][j]) for j, w in enumerate(p[i])]
        return sum(share * (math.log(total) - x / temperature) for share, x in shares)

    return mean_over_anchors(p, term)


def circle(s, p, n, margin=0.4, scale=8.0, **_):
    def term(i):
        near = sum(w * math.exp(scale * max(x + margin, 0) * (x - margin)) for x, w in zip(s[i], n[i], strict=True))
        far = 0.0
        for x, w in zip(s[i], p[i], strict=True):
            far += w * math.exp(-scale * max(1 + margin - x, 0) * (x - 1 + margin))
        return math.log(1 + near * far)

    return mean_over_contested(p, n, term)


def sigmoid_pairs(s, p, n, **_):
    total = 0.0
    for i in range(len(s)):
        for j, x in enumerate(s[i]):
            logit = 4.0 * x - 2.0
            total += p[i][j] * math.log(1 + math.exp(-logit)) + n[i][j] * math.log(1 + math.exp(logit))
    return total / len(s)


def lifted(s, p, n, margin=1.0, **_):
    def term(i, j):
        total = sum(w * math.exp(margin - distance(s[i][k])) for k, w in enumerate(n[i]))
        total += sum(n[k][j] * math.exp(margin - distance(s[k][j])) for k in range(len(s)))
        return max(math.log(total) + distance(s[i][j]), 0) ** 2

    return mean_over_positives(p, term) / 2


def generalized_lifted(s, p, n, margin=1.0, **_):
    def term(i):
        far = sum(w * math.exp(distance(x)) for x, w in zip(s[i], p[i], strict=True))
        near = sum(w * math.exp(margin - distance(x)) for x, w in zip(s[i], n[i], strict=True))
        return max(math.log(far) + math.log(near), 0)

    return mean_over_contested(p, n, term)


def angular(s, p, n, anchors, candidates, angle=40.0, **_):
    square = math.tan(math.radians(angle)) ** 2

    def term(i, j):
        added = [x + y for x, y in zip(anchors[i], candidates[j], strict=True)]
        return math.log(
            1
            + sum(
                w * math.exp(4 * square * dot(added, candidates[k]) - 2 * (1 + square) * s[i][j])
                for k, w in enumerate(n[i])
            )
        )

    return mean_over_positives(p, term)


def tuplet_margin(s, p, n, slack=5.73, scale=8.0, **_):
    def term(i, j):
        eased = math.cos(math.acos(s[i][j]) - math.radians(slack))
        return math.log(1 + sum(w * math.exp(scale * (s[i][k] - eased)) for k, w in enumerate(n[i])))

    return mean_over_positives(p, term)


def histogram(s, p, n, num_bins=8, **_):
    def density(weight):
        pairs = positives(weight)
        values = []
        for node in range(num_bins + 1):
            center = -1 + 2 * node / num_bins
            values.append(sum(w * max(1 - abs(s[i][j] - center) * num_bins / 2, 0) for i, j, w in pairs))
        return [value / sum(w for _, _, w in pairs) for value in values]

    near, far = density(n), density(p)
    return sum(near[r] * sum(far[: r + 1]) for r in range(num_bins + 1))


def fast_ap(s, p, n, num_bins=10, **_):
    def counts(row, weight):
        width = 4 / num_bins
        nodes = [width * node for node in range(num_bins + 1)]
        squares = [2 - 2 * x for x in row]
        return [
            sum(w * max(1 - abs(d - node) / width, 0) for d, w in zip(squares, weight, strict=True)) for node in nodes
        ]

    def term(i):
        right, wrong = counts(s[i], p[i]), counts(s[i], n[i])
        total = 0.0
        for node in range(num_bins + 1):
            above = sum(right[: node + 1])
            if above + sum(wrong[: node + 1]) > 0:
                total += right[node] * above / (above + sum(wrong[: node + 1]))
        return 1 - total / sum(p[i])

    return mean_over_anchors(p, term)


def ranks(s, p, n, i, j, right_step, wrong_step):
    right = 1 + sum(w * right_step(s[i][k] - s[i][j]) for k, w in enumerate(p[i]) if k != j)
    wrong = sum(w * wrong_step(s[i][k] - s[i][j]) for k, w in enumerate(n[i]))
    return right, wrong


def smooth_ap(s, p, n, temperature=0.05, **_):
    def step(x):
        return sigmoid(x / temperature)

    def term(i):
        total = 0.0
        for j, w in enumerate(p[i]):
            right, wrong = ranks(s, p, n, i, j, step, step)
            total += w * right / (right + wrong)
        return 1 - total / sum(p[i])

    return mean_over_anchors(p, term)


def roadmap(s, p, n, temperature=0.05, slope=100.0, offset=1.44, delta=0.05, calibration=0.3, **_):
    def upper(x):
        if x > delta:
            return slope * (x - delta) + offset
        return sigmoid(x / temperature) + (0.5 if x > 0 else 0)

    def term(i):
        total = 0.0
        for j, w in enumerate(p[i]):
            right, wrong = ranks(s, p, n, i, j, lambda x: float(x > 0), upper)
            total += w * right / (right + wrong)
        return 1 - total / sum(p[i])

    apart = 0.0
    for weights, hinge in ((p, lambda x: 0.9 - x), (n, lambda x: x - 0.6)):
        active = [(w, hinge(s[i][j])) for i, row in enumerate(weights) for j, w in enumerate(row) if hinge(s[i][j]) > 0]
        apart += sum(w * x for w, x in active) / (sum(w for w, _ in active) or 1)
    return (1 - calibration) * mean_over_anchors(p, term) + calibration * apart


def recall_at_k(s, p, n, ks=(1, 2, 4), rank_temperature=1.0, temperature=0.05, **_):
    def step(x):
        return sigmoid(x / temperature)

    def term(i):
        total = 0.0
        for k in ks:
            inside = sum(
                w * sigmoid((k - sum(ranks(s, p, n, i, j, step, step))) / rank_temperature) for j, w in enumerate(p[i])
            )
            total += 1 - inside / min(k, sum(p[i]))
        return total / len(ks)

    return mean_over_anchors(p, term)


def ranked_list(s, p, n, margin=0.4, alpha=1.2, neg_temperature=10.0, pos_temperature=2.0, balance=0.3, **_):
    def part(row, weight, hinge, temperature):
        chosen = [(w * math.exp(temperature * hinge(x)), hinge(x)) for x, w in zip(row, weight, strict=True) if w]
        chosen = [(w, h) for w, h in chosen if h > 0]
        return sum(w * h for w, h in chosen) / sum(w for w, _ in chosen) if chosen else 0

    total = 0.0
    for i in range(len(s)):
        total += (1 - balance) * part(s[i], p[i], lambda x: distance(x) - (alpha - margin), pos_temperature)
        total += balance * part(s[i], n[i], lambda x: alpha - distance(x), neg_temperature)
    return total / len(s)


def tcm(s, p, n, pos_margin=0.9, neg_margin=0.1, pos_weight=1.0, neg_weight=0.5, **_):
    far = [(w, pos_margin - s[i][j]) for i, j, w in positives(p) if s[i][j] <= pos_margin]
    near = [(w, s[i][j] - neg_margin) for i, j, w in positives(n) if s[i][j] >= neg_margin]
    far, near = (sum(w * x for w, x in part) / sum(w for w, _ in part) for part in (far, near))
    return pos_weight * far + neg_weight * near


LOOPS = [
    ('NTXentLoss', dict(temperature=0.3), nt_xent),
    ('SupConLoss', dict(temperature=0.3), sup_con),
    ('CircleLoss', dict(margin=0.4, scale=8.0), circle),
    ('SigmoidLoss', dict(scale=4.0, bias=-2.0), sigmoid_pairs),
    ('LiftedStructureLoss', dict(), lifted),
    ('GeneralizedLiftedStructureLoss', dict(), generalized_lifted),
    ('AngularLoss', dict(angle=40.0), angular),
    ('TupletMarginLoss', dict(scale=8.0), tuplet_margin),
    ('HistogramLoss', dict(num_bins=8), histogram),
    ('FastAPLoss', dict(), fast_ap),
    ('SmoothAPLoss', dict(temperature=0.05), smooth_ap),
    ('RoadmapLoss', dict(temperature=0.05, calibration=0.3), roadmap),
    ('RecallAtKLoss', dict(ks=(1, 2, 4), temperature=0.05), recall_at_k),
    ('RankedListLoss', dict(pos_temperature=2.0, balance=0.3), ranked_list),
    ('TCMLoss', dict(neg_margin=0.1, neg_weight=0.5), tcm),
]
each_loss = pytest.mark.parametrize('name, options, loop', LOOPS, ids=[name for name, _, _ in LOOPS])


def built(name, options):
    # In double precision from the start: the logarithm of a scale is a parameter.
    torch.set_default_dtype(torch.float64)
    try:
        return MODELS.build(dict(type=name, **options))
    finally:
        torch.set_default_dtype(torch.float32)


def batch(seed=0, width=5):
    """Seven anchors, one alone in its class; a noisy copy of each and two remembered rows among the candidates."""
    generator = torch.Generator().manual_seed(seed)
    raw = torch.randn(16, width, generator=generator, dtype=torch.float64)
    raw[7:14] = raw[:7] + 0.7 * raw[7:14]
    labels, views = torch.tensor([0, 0, 0, 1, 1, 2, 9]), torch.arange(7)
    rows = normalize(raw)
    candidate_labels = torch.cat([labels, labels, torch.tensor([1, 2])])
    return PairBatch(
        Rows(rows[:7], labels, views), Rows(rows, candidate_labels, torch.cat([views, views, torch.tensor([-1, -1])]))
    )


def weighted_pairs(pairs):
    """Most pairs with weights between 0.5 and 2."""
    generator = torch.Generator().manual_seed(5)
    anchor, candidate = (~pairs.excluded_mask).nonzero(as_tuple=True)
    kept = torch.rand(len(anchor), generator=generator) < 0.8
    weight = 0.5 + 1.5 * torch.rand(len(anchor), generator=generator, dtype=torch.float64)
    return Pairs(anchor[kept], candidate[kept], weight[kept])


def by_loop(loop, pairs, mined=None):
    positive, negative = (weight.tolist() for weight in pairs.weights(mined))
    rows = dict(anchors=pairs.anchors.embeddings.tolist(), candidates=pairs.candidates.embeddings.tolist())
    return loop(pairs.similarity.tolist(), positive, negative, **rows)


@each_loss
@pytest.mark.parametrize('seed', range(3))
def test_equals_a_plain_loop(name, options, loop, seed):
    pairs = batch(seed)
    assert not pairs.positive_mask[6].all() and pairs.positive_mask[:6].any(1).all()
    assert float(built(name, options)(pairs).detach()) == pytest.approx(by_loop(loop, pairs), rel=1e-9, abs=1e-12)


@each_loss
def test_weights_of_mined_pairs_equal_a_plain_loop(name, options, loop):
    pairs = batch()
    mined = weighted_pairs(pairs)
    assert float(built(name, options)(pairs, mined).detach()) == pytest.approx(by_loop(loop, pairs, mined), rel=1e-9)


@each_loss
def test_soft_targets_equal_a_plain_loop(name, options, loop):
    pairs = batch()
    targets = torch.rand(7, 16, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    soft = PairBatch(pairs.anchors, pairs.candidates, targets=targets * pairs._is_positive)
    assert float(built(name, options)(soft).detach()) == pytest.approx(by_loop(loop, soft), rel=1e-9)


#: The weights of circle loss and the counted ranks of ROADMAP's positives have no gradient by definition.
WITHOUT_FULL_GRADIENT = {'CircleLoss'}


@pytest.mark.parametrize('name, options', [(n, o) for n, o, _ in LOOPS if n not in WITHOUT_FULL_GRADIENT])
def test_the_gradient_is_that_of_the_value(name, options):
    loss = built(name, options)

    def of(raw, *parameters):
        names = [key for key, _ in loss.named_parameters()]
        pairs = PairBatch.from_embeddings(normalize(raw), torch.tensor([0, 0, 0, 1, 1, 2]))
        return torch.func.functional_call(loss, dict(zip(names, parameters, strict=True)), (pairs,))

    raw = torch.randn(6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(3)).requires_grad_()
    parameters = [parameter.detach().clone().requires_grad_() for parameter in loss.parameters()]
    assert torch.autograd.gradcheck(of, (raw, *parameters), eps=1e-7)


def test_the_gradient_of_circle_loss_is_that_with_fixed_weights():
    pairs = batch()
    similarity = pairs.similarity.clone().requires_grad_()
    fixed = pairs.similarity
    near = (0.4 + fixed).clamp_min(0) * (similarity - 0.4)
    far = -(1.4 - fixed).clamp_min(0) * (similarity - 0.6)
    total = []
    for i in range(7):
        p, n = pairs.positive_mask[i], pairs.negative_mask[i]
        if p.any() and n.any():
            total.append(torch.log1p((8 * near[i][n]).exp().sum() * (8 * far[i][p]).exp().sum()))
    (expected,) = torch.autograd.grad(sum(total) / len(total), similarity)
    pairs.similarity = pairs.similarity.clone().requires_grad_()
    (actual,) = torch.autograd.grad(built('CircleLoss', dict(scale=8.0))(pairs), pairs.similarity)
    torch.testing.assert_close(actual, expected, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize('name', ['AngularLoss', 'SmoothAPLoss', 'RoadmapLoss', 'RecallAtKLoss'])
def test_blocks_of_pairs_change_neither_value_nor_gradient(name, monkeypatch):
    results = []
    for entries in (2**23, 40):
        monkeypatch.setattr(pair_sums, 'BLOCK_ENTRIES', entries)
        raw = torch.randn(7, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(3)).requires_grad_()
        pairs = PairBatch.from_embeddings(normalize(raw), torch.tensor([0, 0, 0, 1, 1, 2, 2]))
        value = MODELS.build(dict(type=name))(pairs)
        results.append((value.detach(), torch.autograd.grad(value, raw)[0]))
    torch.testing.assert_close(results[0], results[1], rtol=1e-12, atol=1e-14)


def line_of(*similarities):
    """One anchor, whose candidates have the given similarities."""
    rows = torch.tensor([[s, math.sqrt(1 - s * s)] for s in similarities], dtype=torch.float64)
    return Rows.of_batch(torch.tensor([[1.0, 0.0]], dtype=torch.float64), torch.tensor([0])), rows


def test_average_precision_by_hand():
    """The positives are first and fourth: AP = (1 + 2 / 4) / 2 = 0.75, recall at 1, 2, 4: 1, 1 / 2, 1."""
    anchor, rows = line_of(0.9, 0.7, 0.5, 0.3, 0.1)
    pairs = PairBatch(anchor, Rows(rows, torch.tensor([0, 1, 1, 0, 1]), torch.arange(1, 6)))
    sharp = dict(temperature=1e-3)
    assert float(built('SmoothAPLoss', sharp)(pairs)) == pytest.approx(0.25)
    recall = built('RecallAtKLoss', dict(ks=(1, 2, 4), rank_temperature=1e-3, **sharp))
    # A rank of exactly k is half inside.
    assert float(recall(pairs)) == pytest.approx(1 - (0.5 + 0.5 + 0.75) / 3)
    # Two negatives are 0.4 and 0.2 above the second positive: 100 (0.35 + 0.15) + 2 x 1.44.
    bound = built('RoadmapLoss', dict(calibration=0.0, **sharp))
    assert float(bound(pairs)) == pytest.approx(1 - (1 + 2 / (2 + 52.88)) / 2)
    # One candidate in each of the bins [0, 0.4), [0.4, 0.8), ... by its squared distance 0.2, 0.6, 1.0, 1.4, 1.8.
    exact = built('FastAPLoss', dict(num_bins=40))
    assert float(exact(pairs)) == pytest.approx(0.25)


def test_histogram_loss_is_the_share_of_pairs_in_the_wrong_order():
    anchor, rows = line_of(0.5, -0.5, 0.0, -1.0)
    pairs = PairBatch(anchor, Rows(rows, torch.tensor([0, 0, 1, 1]), torch.arange(1, 5)))
    # Of the four pairs of a negative and a positive one is in the wrong order: 0 above -0.5.
    assert float(built('HistogramLoss', dict(num_bins=4))(pairs)) == pytest.approx(0.25)


@each_loss
def test_half_precision_and_autocast_are_computed_in_fp32(name, options, loop):
    for dtype in (torch.bfloat16, torch.float16):
        pairs = batch()
        rows = pairs.candidates.with_embeddings(pairs.candidates.embeddings.to(dtype))
        loss = MODELS.build(dict(type=name, **options))
        single = rows.with_embeddings(rows.embeddings.float())
        expected = loss(PairBatch(single[:7], single))
        with torch.autocast('cpu', dtype):
            value = loss(PairBatch(rows[:7], rows))
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-6)


@each_loss
def test_a_loss_falls_when_it_is_followed(name, options, loop):
    raw = torch.randn(16, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    labels = torch.arange(4).repeat_interleave(4)
    loss = MODELS.build(dict(type=name, **options))
    optimizer = torch.optim.Adam([raw], lr=0.05)
    values = []
    for _ in range(30):
        value = loss(PairBatch.from_embeddings(normalize(raw), labels))
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        values.append(float(value.detach()))
    assert values[-1] < 0.9 * values[0]


class OtherSpace(Space):
    """Not the cosine."""


@pytest.mark.parametrize('name', ['AngularLoss', 'TupletMarginLoss', 'HistogramLoss', 'FastAPLoss'])
def test_what_holds_for_cosines_only_refuses_another_space_by_name(name):
    pairs = batch()
    with pytest.raises(ValueError, match=f'{name} compares by cosine and cannot use OtherSpace'):
        MODELS.build(dict(type=name))(PairBatch(pairs.anchors, pairs.candidates, space=OtherSpace()))


@pytest.mark.parametrize(
    'config, message',
    [
        (dict(type='NTXentLoss', temperature=0.0), 'temperature must be positive, got 0.0'),
        (dict(type='SupConLoss', temperature=-1.0), 'temperature must be positive, got -1.0'),
        (dict(type='CircleLoss', scale=0.0), 'scale must be positive, got 0.0'),
        (dict(type='SigmoidLoss', scale=0.0), 'scale must be positive, got 0.0'),
        (dict(type='SigmoidLoss', reduction='sum'), "reduction must be one of .*, got 'sum'"),
        (dict(type='AngularLoss', angle=90), 'angle must lie between 0 and 90 degrees, got 90'),
        (dict(type='TupletMarginLoss', scale=0.0), 'scale must be positive, got 0.0'),
        (dict(type='HistogramLoss', num_bins=0), 'num_bins must be an integer of at least 1, got 0'),
        (dict(type='FastAPLoss', num_bins=0), 'num_bins must be an integer of at least 1, got 0'),
        (dict(type='SmoothAPLoss', temperature=0.0), 'temperature must be positive, got 0.0'),
        (dict(type='RoadmapLoss', temperature=0.0), 'temperature must be positive, got 0.0'),
        (dict(type='RoadmapLoss', calibration=2), r'calibration must lie in \[0, 1\], got 2'),
        (dict(type='RecallAtKLoss', ks=(0, 1)), r'ks must be one or more numbers of 1 or more, got \(0, 1\)'),
        (dict(type='RecallAtKLoss', ks=()), r'ks must be one or more numbers of 1 or more, got \(\)'),
        (dict(type='RecallAtKLoss', ks=5), 'ks must be one or more numbers of 1 or more, got 5'),
        (dict(type='RecallAtKLoss', ks=(1, '2')), 'ks must be one or more numbers of 1 or more, got'),
        (dict(type='RecallAtKLoss', rank_temperature=0.0), 'rank_temperature must be positive, got 0.0'),
        (dict(type='RankedListLoss', margin=2.0), 'alpha - margin must be positive, got -0.8'),
        (dict(type='RankedListLoss', balance=2), r'balance must lie in \[0, 1\], got 2'),
        (dict(type='RankedListLoss', neg_temperature=-1), 'temperatures must not be negative, got -1 and 0.0'),
        (dict(type='TCMLoss', pos_weight=-1), 'weights must not be negative, got -1 and 1.0'),
    ],
    ids=lambda value: value['type'] if isinstance(value, dict) else '',
)
def test_bad_options_are_refused(config, message):
    with pytest.raises(ValueError, match=message):
        MODELS.build(config)


@pytest.mark.parametrize('temperature', [50.0, 300.0])
@pytest.mark.parametrize('side', ['neg_temperature', 'pos_temperature'])
def test_the_ranked_list_has_the_value_of_double_precision_at_any_temperature(side, temperature):
    raw = torch.randn(24, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    labels = torch.arange(24) % 3
    values, gradients = [], []
    for dtype in (torch.float32, torch.float64):
        rows = raw.to(dtype).requires_grad_()
        loss = MODELS.build(dict(type='RankedListLoss', **{side: temperature})).to(dtype)
        value = loss(PairBatch.from_embeddings(normalize(rows), labels))
        value.backward()
        values.append(value.item()), gradients.append(rows.grad.double())
    assert values[0] == pytest.approx(values[1], rel=1e-4) and values[1] > 0
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-2, atol=1e-4)
