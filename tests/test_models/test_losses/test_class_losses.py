"""Class-based losses by plain loops, by their gradients, and against pytorch-metric-learning."""

import math

import pytest
import torch
from pytorch_metric_learning import losses as pml
from torch.nn.functional import normalize

from mmdml.models.heads import DivideAndConquerHead
from mmdml.models.losses import (
    ArcFaceLoss,
    CosFaceLoss,
    HISTLoss,
    MeanFieldClassWiseMultiSimilarityLoss,
    MeanFieldContrastiveLoss,
    NormSoftmaxLoss,
    PotentialFieldLoss,
    ProxyAnchorLoss,
    ProxyNCAPlusPlusLoss,
    SoftTripleLoss,
)
from mmdml.models.necks import DivideAndConquerEmbedding, LinearEmbedding
from mmdml.registry import MODELS
from mmdml.structures import PairBatch, Rows

CLASSES, WIDTH = 5, 3


def batch(rows=7, seed=0):
    """Rows of which only the first four are anchors."""
    generator = torch.Generator().manual_seed(seed)
    unit = normalize(torch.randn(rows, WIDTH, generator=generator, dtype=torch.float64)).requires_grad_()
    labels, views = torch.randint(0, CLASSES, (rows,), generator=generator), torch.arange(rows)
    return PairBatch(Rows(unit[:4], labels[:4], views[:4]), Rows(unit, labels, views))


def seeded(kind, **options):
    """A loss with proxies of many lengths, none of which must matter."""
    loss = kind(CLASSES, WIDTH, **options).double()
    generator = torch.Generator().manual_seed(9)
    for parameter in loss.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    loss.proxies.data *= 2
    return loss


def cosines(loss, pairs):
    """Lists ``[row][class][center]`` and labels."""
    unit = [(p / p.norm()).tolist() for p in loss.proxies.detach()]
    k = loss.proxies_per_class
    rows = [
        [[sum(a * b for a, b in zip(x, unit[c * k + j], strict=True)) for j in range(k)] for c in range(CLASSES)]
        for x in pairs.candidates.embeddings.tolist()
    ]
    return rows, pairs.candidates.labels.tolist(), unit


def negative_log_share(logits, own):
    return -math.log(math.exp(logits[own]) / sum(math.exp(value) for value in logits))


def softmax_loop(loss, pairs, logit):
    """Mean over rows of -ln of the own class's share, with ``logit(cosines of a class, own)``."""
    rows, labels, _ = cosines(loss, pairs)
    values = [
        negative_log_share([logit(c, z == y) for z, c in enumerate(row)], y)
        for row, y in zip(rows, labels, strict=True)
    ]
    return sum(values) / len(values)


def arc_logit(loss, c, own):
    nearest = max(c)
    if not own:
        return loss.scale * nearest
    angle = math.acos(nearest) + loss.margin
    return loss.scale * (math.cos(angle) if angle <= math.pi else nearest - loss.margin * math.sin(loss.margin))


def soft_triple_loop(loss, pairs):
    def logit(c, own):
        parts = [math.exp(value / loss.gamma) for value in c]
        return loss.scale * (sum(p * v for p, v in zip(parts, c, strict=True)) / sum(parts) - loss.margin * own)

    value, (_, _, unit), k = softmax_loop(loss, pairs, logit), cosines(loss, pairs), loss.proxies_per_class
    for c in range(CLASSES):
        for i in range(k):
            for j in range(i + 1, k):
                value += loss.tau * math.dist(unit[c * k + i], unit[c * k + j]) / (CLASSES * k * (k - 1))
    return value


def proxy_anchor_loop(loss, pairs):
    rows, labels, _ = cosines(loss, pairs)
    pull, push, present = 0.0, 0.0, 0
    for z in range(CLASSES):
        own = [math.exp(-loss.alpha * (row[z][0] - loss.margin)) for row, y in zip(rows, labels, strict=True) if y == z]
        others = [
            math.exp(loss.alpha * (row[z][0] + loss.margin)) for row, y in zip(rows, labels, strict=True) if y != z
        ]
        present += bool(own)
        pull += math.log(1 + sum(own))
        push += math.log(1 + sum(others))
    return pull / present + push / CLASSES


def mean_field_contrastive_loop(loss, pairs):
    rows, labels, unit = cosines(loss, pairs)
    total = sum(
        sum(
            max(1 - c - loss.pos_margin, 0) if z == y else max(loss.neg_margin - 1 + c, 0) for z, (c,) in enumerate(row)
        )
        for row, y in zip(rows, labels, strict=True)
    )
    fields = sum(
        max(loss.neg_margin - math.dist(unit[c], unit[z]) ** 2 / 2, 0) ** 2
        for c in range(CLASSES)
        for z in range(CLASSES)
        if c != z
    )
    return total / len(rows) + loss.field_weight * fields / CLASSES


def mean_field_class_wise_loop(loss, pairs):
    rows, labels, unit = cosines(loss, pairs)

    def mean(c, z, sharpness):
        own = [row[z][0] for row, y in zip(rows, labels, strict=True) if y == c]
        return sum(math.exp(sharpness * (s - loss.base)) for s in own) / max(len(own), 1)

    value, classes = 0.0, range(CLASSES)
    for c in classes:
        value += math.log(1 + mean(c, c, -loss.alpha)) / loss.alpha
        for z in classes:
            if z != c:
                value += math.log(1 + mean(c, z, loss.beta) + mean(z, c, loss.beta)) / (2 * loss.beta)
    value /= len(set(labels))
    for c in classes:
        for z in classes:
            if z != c:
                near = math.exp(loss.beta * (1 - math.dist(unit[c], unit[z]) ** 2 / 2 - loss.base))
                value += loss.field_weight / CLASSES * (math.log(1 + near) / loss.beta) ** 2
    return value


def potential_field_loop(loss, pairs):
    _, labels, unit = cosines(loss, pairs)
    owner = [number // loss.proxies_per_class for number in range(len(unit))]
    anchors, rows = pairs.anchors.embeddings.tolist(), pairs.candidates.embeddings.tolist()

    def potential(a, b, same):
        d = math.sqrt(math.dist(a, b) ** 2 + (loss.delta / 10) ** 2)
        return (
            -((loss.delta / max(d, loss.delta)) ** loss.alpha)
            if same
            else (loss.delta / min(d, loss.delta)) ** loss.alpha
        )

    among_rows = sum(
        potential(a, x, labels[i] == labels[j]) for i, a in enumerate(anchors) for j, x in enumerate(rows) if i != j
    )
    to_proxies = sum(
        potential(x, p, y == z) for x, y in zip(rows, labels, strict=True) for p, z in zip(unit, owner, strict=True)
    )
    among_proxies = sum(
        potential(unit[i], unit[j], owner[i] == owner[j]) for i in range(len(unit)) for j in range(len(unit)) if i != j
    )
    return among_rows / len(anchors) + 2 * to_proxies / len(rows) + among_proxies / len(rows)


def hist_loop(loss, pairs):
    rows, labels = pairs.candidates.embeddings.tolist(), pairs.candidates.labels.tolist()
    _, _, unit = cosines(loss, pairs)
    variances = [[math.exp(min(max(r, 0), 6)) for r in row] for row in loss.log_variances.tolist()]
    distance = [
        [sum((a - m) ** 2 / v for a, m, v in zip(x, unit[c], variances[c], strict=True)) for c in range(CLASSES)]
        for x in rows
    ]
    first = sum(negative_log_share([-loss.tau * d for d in row], y) for row, y in zip(distance, labels, strict=True))
    edges = sorted(set(labels))
    h = [
        [1.0 if c == y else math.exp(-loss.alpha * row[c]) for c in edges]
        for row, y in zip(distance, labels, strict=True)
    ]
    of_edge = [sum(row[e] for row in h) for e in range(len(edges))]

    def spread(matrix):
        return [
            [
                sum(
                    sum(h[i][e] * h[j][e] / of_edge[e] for e in range(len(edges)))
                    / math.sqrt(sum(h[i]) * sum(h[j]))
                    * matrix[j][k]
                    for j in range(len(rows))
                )
                for k in range(len(matrix[0]))
            ]
            for i in range(len(rows))
        ]

    hidden = spread(loss.inner(pairs.candidates.embeddings).tolist())
    for k in range(len(hidden[0])):
        column = [row[k] for row in hidden]
        mean = sum(column) / len(column)
        deviation = math.sqrt(sum((value - mean) ** 2 for value in column) / len(column) + 1e-5)
        for row in hidden:
            value = (row[k] - mean) / deviation * loss.norm_scale[k].item() + loss.norm_shift[k].item()
            row[k] = value if value > 0 else 0.1 * value
    logits = spread(loss.outer(torch.tensor(hidden, dtype=torch.float64)).tolist())
    second = sum(negative_log_share(row, y) for row, y in zip(logits, labels, strict=True))
    return (first + loss.weight * second) / len(rows)


CASES = {
    'norm softmax': (
        NormSoftmaxLoss,
        dict(temperature=0.2),
        lambda f, pairs: softmax_loop(f, pairs, lambda c, own: c[0] / f.temperature),
    ),
    'proxy nca++': (
        ProxyNCAPlusPlusLoss,
        dict(),
        lambda f, pairs: softmax_loop(f, pairs, lambda c, own: -(2 - 2 * c[0]) / f.temperature),
    ),
    'cos face': (
        CosFaceLoss,
        dict(scale=9.0),
        lambda f, pairs: softmax_loop(f, pairs, lambda c, own: f.scale * (c[0] - f.margin * own)),
    ),
    'arc face': (
        ArcFaceLoss,
        dict(scale=9.0),
        lambda f, pairs: softmax_loop(f, pairs, lambda c, own: arc_logit(f, c, own)),
    ),
    'arc face, large margin': (
        ArcFaceLoss,
        dict(scale=5.0, margin=2.5),
        lambda f, pairs: softmax_loop(f, pairs, lambda c, own: arc_logit(f, c, own)),
    ),
    'arc face, sub-centers': (
        ArcFaceLoss,
        dict(scale=9.0, sub_centers=3),
        lambda f, pairs: softmax_loop(f, pairs, lambda c, own: arc_logit(f, c, own)),
    ),
    'soft triple': (SoftTripleLoss, dict(centers_per_class=4), soft_triple_loop),
    'soft triple, one center': (SoftTripleLoss, dict(centers_per_class=1), soft_triple_loop),
    'mean field contrastive': (
        MeanFieldContrastiveLoss,
        dict(pos_margin=0.1, neg_margin=0.8, field_weight=0.3),
        mean_field_contrastive_loop,
    ),
    'mean field class-wise': (
        MeanFieldClassWiseMultiSimilarityLoss,
        dict(alpha=2.0, beta=9.0, base=0.4, field_weight=0.3),
        mean_field_class_wise_loop,
    ),
    'potential field': (PotentialFieldLoss, dict(proxies_per_class=2, alpha=2.0, delta=0.5), potential_field_loop),
    'hist': (HISTLoss, dict(tau=3.0, weight=0.7, hidden=4), hist_loop),
    'proxy anchor': (ProxyAnchorLoss, dict(), proxy_anchor_loop),
    'proxy anchor, soft': (ProxyAnchorLoss, dict(alpha=4.0, margin=0.3), proxy_anchor_loop),
}
each_case = pytest.mark.parametrize('kind, options, loop', CASES.values(), ids=list(CASES))


@each_case
@pytest.mark.parametrize('seed', range(3))
def test_equals_a_loop_over_all_candidates(kind, options, loop, seed):
    loss, pairs = seeded(kind, **options), batch(seed=seed)
    assert float(loss(pairs).detach()) == pytest.approx(loop(loss, pairs), rel=1e-9)


@each_case
def test_gradient_of_rows_and_proxies_is_that_of_the_value(kind, options, loop):
    labels = torch.tensor([0, 0, 1, 4])

    def of(raw, proxies):
        pairs = PairBatch.from_embeddings(normalize(raw), labels)
        return torch.func.functional_call(seeded(kind, **options), {'proxies': proxies}, (pairs,))

    raw = torch.randn(4, WIDTH, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
    assert torch.autograd.gradcheck(of, (raw, seeded(kind, **options).proxies.detach().requires_grad_()))


@each_case
def test_rows_on_top_of_their_proxies_or_opposite_to_them_have_a_finite_gradient(kind, options, loop):
    loss = kind(CLASSES, WIDTH, **options)
    for sign in (1, -1):
        unit = (sign * loss.unit_proxies()[:: loss.proxies_per_class]).detach().requires_grad_()
        value = loss(PairBatch.from_embeddings(unit, torch.arange(CLASSES)))
        value.backward()
        assert torch.isfinite(value) and torch.isfinite(unit.grad).all() and torch.isfinite(loss.proxies.grad).all()


@each_case
def test_descent_brings_rows_to_their_own_proxies(kind, options, loop):
    torch.manual_seed(0)
    loss = kind(4, 6, **options)
    raw, labels = torch.randn(12, 6).requires_grad_(), torch.arange(12) % 4
    optimizer = torch.optim.Adam([raw, *loss.parameters()], lr=0.1)
    for _ in range(60):
        optimizer.zero_grad()
        loss(PairBatch.from_embeddings(normalize(raw), labels)).backward()
        optimizer.step()
    cosine = (normalize(raw) @ loss.unit_proxies().t()).unflatten(1, (4, -1)).amax(2)
    assert torch.equal(cosine.argmax(1), labels)


@each_case
@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16], ids=str)
def test_autocast_changes_nothing_and_half_precision_is_computed_in_fp32(kind, options, loop, dtype):
    loss, labels = seeded(kind, **options).float(), torch.tensor([0, 1, 2, 3])
    unit = batch().anchors.embeddings.detach().to(dtype)
    expected = loss(PairBatch.from_embeddings(unit.float(), labels))
    with torch.autocast('cpu', dtype):
        value = loss(PairBatch.from_embeddings(unit, labels))
    assert value.dtype == torch.float32 and torch.equal(value, expected)


def test_near_duplicates_of_two_classes_have_a_gradient_in_half_precision():
    generator = torch.Generator().manual_seed(0)
    centers = torch.randn(4, 16, generator=generator, dtype=torch.float64)
    raw = torch.cat([centers, centers + 1e-3 * torch.randn(4, 16, generator=generator, dtype=torch.float64)])
    neck, labels = LinearEmbedding(16, 16), torch.tensor([0, 1, 2, 3, 1, 0, 3, 2])
    torch.manual_seed(1)
    loss = PotentialFieldLoss(4, 16, 2)

    def gradient(rows):
        rows.requires_grad_()
        loss(PairBatch.from_embeddings(neck.unit(rows), labels)).backward()
        return rows.grad.double()

    half = gradient(raw.half())
    exact = gradient(raw.half().double())
    assert exact.abs().max() > 1000
    torch.testing.assert_close(half, exact, rtol=0.01, atol=0.001 * exact.abs().max().item())


THEIRS = {
    'norm softmax': (NormSoftmaxLoss, dict(), pml.NormalizedSoftmaxLoss, dict()),
    'proxy nca++': (ProxyNCAPlusPlusLoss, dict(), pml.ProxyNCALoss, dict(softmax_scale=9)),
    'cos face': (CosFaceLoss, dict(), pml.CosFaceLoss, dict()),
    'arc face': (ArcFaceLoss, dict(), pml.ArcFaceLoss, dict(margin=math.degrees(0.5))),
    'sub-centers': (
        ArcFaceLoss,
        dict(sub_centers=3),
        pml.SubCenterArcFaceLoss,
        dict(margin=math.degrees(0.5), sub_centers=3),
    ),
    'soft triple': (SoftTripleLoss, dict(tau=0.0), pml.SoftTripleLoss, dict()),
    'proxy anchor': (ProxyAnchorLoss, dict(), pml.ProxyAnchorLoss, dict()),
}


@pytest.mark.parametrize('kind, options, their_kind, their_options', THEIRS.values(), ids=list(THEIRS))
@pytest.mark.parametrize('seed', range(3))
def test_agrees_with_pytorch_metric_learning(kind, options, their_kind, their_options, seed):
    ours, generator = seeded(kind, **options), torch.Generator().manual_seed(seed)
    raw = torch.randn(8, WIDTH, generator=generator, dtype=torch.float64).requires_grad_()
    labels = torch.randint(0, CLASSES, (8,), generator=generator)
    theirs = their_kind(num_classes=CLASSES, embedding_size=WIDTH, **their_options)
    # Proxies of one class lie side by side in both; theirs are columns, here and there.
    (parameter,) = theirs.parameters()
    transposed = parameter.shape == ours.proxies.t().shape
    parameter.data = (ours.proxies.t() if transposed else ours.proxies).detach().clone()
    expected, actual = theirs(raw, labels), ours(PairBatch.from_embeddings(normalize(raw), labels))
    torch.testing.assert_close(actual.detach(), expected.detach(), rtol=1e-9, atol=1e-9)
    for of_ours, of_theirs in ((raw, raw), (ours.proxies, parameter)):
        (gradient,) = torch.autograd.grad(actual, of_ours, retain_graph=True)
        (their_gradient,) = torch.autograd.grad(expected, of_theirs, retain_graph=True)
        if of_ours is not raw and transposed:
            their_gradient = their_gradient.t()
        torch.testing.assert_close(gradient, their_gradient, rtol=1e-6, atol=1e-9)


def test_the_regularizer_alone_merges_the_centers_of_a_class():
    torch.manual_seed(0)
    loss, rows = SoftTripleLoss(3, 4, centers_per_class=3), PairBatch.from_embeddings(torch.eye(4), torch.arange(4) % 3)
    optimizer = torch.optim.SGD(loss.parameters(), lr=1.0)
    start = loss.further_terms(rows, loss.unit_proxies()).item()
    for _ in range(200):
        optimizer.zero_grad()
        loss.further_terms(rows, loss.unit_proxies()).backward()
        optimizer.step()
    assert loss.further_terms(rows, loss.unit_proxies()).item() < 0.3 * start


@each_case
def test_merged_learners_are_scored_with_the_proxies_of_the_slices_side_by_side(kind, options, loop):
    head = DivideAndConquerHead(dict(type=kind.__name__, num_classes=CLASSES, embed_dim=7, **options))
    head.bind(DivideAndConquerEmbedding(in_channels=4, embed_dim=7, num_learners=3))
    slices = [head.loss_of(learner) for learner in range(3)]
    whole = kind(CLASSES, 7, **options)
    whole.proxies.data = torch.cat([part.unit_proxies() for part in slices], 1).detach()
    for name in {name for name, _ in whole.named_parameters()} - {'proxies'}:
        parts = [part.get_parameter(name).detach() for part in slices]
        joined = torch.cat(parts, 1) if name in kind.wide_parameters else torch.stack(parts).mean(0)
        whole.get_parameter(name).data = joined
    pairs = PairBatch.from_embeddings(normalize(torch.randn(6, 7)), torch.tensor([0, 1, 2, 3, 4, 0]))
    torch.testing.assert_close(head.loss_of(None)(pairs), whole(pairs))


@pytest.mark.parametrize(
    'options, words',
    [
        (dict(type='NormSoftmaxLoss', temperature=0), 'temperature must be positive, got 0'),
        (dict(type='ProxyNCAPlusPlusLoss', temperature=-1), 'temperature must be positive, got -1'),
        (dict(type='CosFaceLoss', scale=0), 'scale must be positive, got 0'),
        (dict(type='CosFaceLoss', margin=-0.1), 'margin must be 0 or more, got -0.1'),
        (dict(type='ArcFaceLoss', scale=float('nan')), 'scale must be a number, got nan'),
        (dict(type='ArcFaceLoss', margin=28.6), r'margin is an angle in radians, in \[0, pi\], got 28.6'),
        (dict(type='ArcFaceLoss', sub_centers=0), 'proxies_per_class must be an integer of at least 1, got 0'),
        (dict(type='SoftTripleLoss', gamma=0), 'gamma must be positive, got 0'),
        (dict(type='SoftTripleLoss', tau=-1), 'tau must be 0 or more, got -1'),
        (dict(type='ProxyAnchorLoss', alpha=0), 'alpha must be positive, got 0'),
        (dict(type='PotentialFieldLoss', delta=0), 'delta must be positive, got 0'),
        (dict(type='MeanFieldContrastiveLoss', neg_margin=3), r'neg_margin is a cosine distance, in \[0, 2\], got 3'),
        (dict(type='MeanFieldContrastiveLoss', field_weight=-1), 'field_weight must be 0 or more, got -1'),
        (
            dict(type='MeanFieldClassWiseMultiSimilarityLoss', beta=500.0),
            r'beta with base=0.8 gives exponentials up to e\^100; lower beta',
        ),
        (dict(type='HISTLoss', weight=-1), 'weight must be 0 or more, got -1'),
        (dict(type='HISTLoss', hidden=0), 'hidden must be positive, got 0'),
    ],
)
def test_bad_options_name_what_would_be_right(options, words):
    with pytest.raises(ValueError, match=words):
        MODELS.build(dict(num_classes=CLASSES, embed_dim=WIDTH, **options))


def test_proxies_shorter_than_any_sensible_one_have_the_cosines_and_gradients_of_normalized_ones():
    loss, pairs = seeded(NormSoftmaxLoss), batch()
    loss.proxies.data[0], loss.proxies.data[1] = 0, loss.proxies.data[1] * 1e-13
    results = [loss(pairs), loss(pairs, unit_proxies=loss.unit_proxies())]
    torch.testing.assert_close(*results)
    torch.testing.assert_close(*(torch.autograd.grad(value, loss.proxies)[0] for value in results))
