"""Embedding expansion, symmetrical synthesis, Metrix and proxy synthesis against plain loops."""

import math

import pytest
import torch
from torch.nn.functional import normalize

from mmdml.models import EmbeddingHead
from mmdml.models.losses import NormSoftmaxLoss, ProxyAnchorLoss, SoftTripleLoss
from mmdml.models.necks import LinearEmbedding
from mmdml.registry import MODELS
from mmdml.structures import PairBatch, Progress, Rows, StepContext

STEP = StepContext(Progress(3, 100, 10))
LABELS = torch.tensor([0, 1, 0, 2, 0, 1])


def raw_rows(seed=0, dtype=torch.float64):
    return torch.randn(6, 3, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def made_by(kind, raw, labels=LABELS, step=STEP, **options):
    return MODELS.build(dict(type=kind, **options))(Rows.of_batch(raw, labels), step)


PAIRS = [(0, 2), (0, 4), (1, 5), (2, 4)]


@pytest.mark.parametrize('number', [1, 2, 3])
def test_expansion_divides_the_segment_between_unit_rows_of_a_class(number):
    raw = raw_rows()
    unit = normalize(raw).tolist()
    made = made_by('EmbeddingExpansion', raw, num_points=number)
    expected = []
    for k in range(1, number + 1):
        for i, j in PAIRS:
            expected.append(
                [((number + 1 - k) * a + k * b) / (number + 1) for a, b in zip(unit[i], unit[j], strict=True)]
            )
    torch.testing.assert_close(normalize(made.embeddings), normalize(torch.tensor(expected, dtype=torch.float64)))
    assert made.labels.tolist() == [0, 0, 1, 0] * number


def test_a_reflection_keeps_length_and_angle_and_its_midpoint_is_on_the_axis():
    raw = raw_rows()
    made = made_by('SymmetricalSynthesis', raw)
    mirrored = [i for i, _ in PAIRS] + [j for _, j in PAIRS]
    axis = [j for _, j in PAIRS] + [i for i, _ in PAIRS]
    for row, i, j in zip(made.embeddings, mirrored, axis, strict=True):
        assert math.isclose(float(row.norm()), float(raw[i].norm()))
        assert math.isclose(float(row @ raw[j]), float(raw[i] @ raw[j]))
        middle = (row + raw[i]) / 2
        assert torch.allclose(middle, (middle @ raw[j]) / (raw[j] @ raw[j]) * raw[j])
    assert made.labels.tolist() == [0, 0, 1, 0] * 2


@pytest.mark.parametrize('kind', ['EmbeddingExpansion', 'SymmetricalSynthesis'])
def test_rows_of_a_class_are_negatives_only_unless_positives_are_meant(kind):
    raw = raw_rows()
    anchors = Rows.of_batch(normalize(raw), LABELS)
    for positives in (False, True):
        made = made_by(kind, raw, positives=positives)
        pairs = PairBatch(anchors, made.with_embeddings(normalize(made.embeddings)))
        own = LABELS[:, None] == made.labels[None, :]
        assert torch.equal(pairs.negative_mask, ~own)
        expected = torch.tensor(
            [[bool(own[a, x]) and a not in made.views[x, :2].tolist() for x in range(len(made))] for a in range(6)]
        )
        assert torch.equal(pairs.positive_mask, expected if positives else torch.zeros_like(expected))


def test_metrix_mixes_each_row_with_its_nearest_rows_of_other_classes():
    raw = raw_rows()
    unit = normalize(raw)
    made = made_by('Metrix', raw, num_partners=2)
    similarity = (unit @ unit.t()).masked_fill(LABELS[:, None] == LABELS, -9)
    nearest = similarity.topk(2).indices
    assert made.views.tolist() == [[i, int(j)] for i in range(6) for j in nearest[i]]
    for row, (i, j), share in zip(made.embeddings, made.views.tolist(), made.shares.double(), strict=True):
        torch.testing.assert_close(normalize(row, dim=0), normalize(share * unit[i] + (1 - share) * unit[j], dim=0))
    assert len(made.shares.unique()) == 12 and torch.equal(made.labels, LABELS[made.views[:, 0]])


def test_shares_are_beta_distributed():
    labels = torch.arange(60)
    raw = torch.randn(60, 3)
    share = made_by('Metrix', raw, labels, num_partners=50, alpha=2.0).shares
    assert abs(share.mean() - 0.5) < 0.02 and abs(share.var() - 1 / 20) < 0.005
    one = [
        made_by('ProxySynthesis', raw, labels, StepContext(Progress(step, 500, 10)), alpha=0.4).shares.unique()
        for step in range(300)
    ]
    assert all(len(share) == 1 for share in one)
    one = torch.cat(one)
    assert abs(one.mean() - 0.5) < 0.07 and abs(one.var() - 0.25 / 1.8) < 0.02


def test_targets_of_a_mixture_are_its_shares_and_its_parents_form_no_pair():
    raw = raw_rows()
    made = made_by('Metrix', raw, num_partners=1, partners='random')
    anchors = Rows.of_batch(normalize(raw), LABELS)
    pairs = PairBatch(anchors, Rows.cat([anchors, made.with_embeddings(normalize(made.embeddings))]))
    positive, negative = pairs.weights()
    for a in range(6):
        for x in range(6, 12):
            i, j = made.views[x - 6].tolist()
            share, target = float(made.shares[x - 6]), 0.0
            target += share * (LABELS[i] == LABELS[a]) + (1 - share) * (LABELS[j] == LABELS[a])
            kept = a not in (i, j)
            assert float(positive[a, x]) == pytest.approx(kept * float(target), abs=1e-6)
            assert float(negative[a, x]) == pytest.approx(kept * (1 - float(target)), abs=1e-6)
    # Real candidates are as without mixtures.
    plain = PairBatch(anchors, anchors).weights()
    assert torch.equal(positive[:, :6], plain[0]) and torch.equal(negative[:, :6], plain[1])


def test_proxy_synthesis_of_norm_softmax_equals_a_loop():
    raw = raw_rows()
    torch.manual_seed(0)
    loss = NormSoftmaxLoss(3, 3, temperature=0.3).double()
    generator = MODELS.build(dict(type='ProxySynthesis', ratio=0.5))
    head = EmbeddingHead(dict(type='NormSoftmaxLoss', num_classes=3, embed_dim=3, temperature=0.3))
    head.loss_fn, head.sources['made'] = loss, generator
    value = head.loss(raw, LABELS, None, LinearEmbedding(3, 3).double(), STEP)['loss']

    made = generator(Rows.of_batch(raw, LABELS), STEP)
    assert len(made) == 3
    assert len(MODELS.build(dict(type='ProxySynthesis', ratio=0.05))(Rows.of_batch(raw, LABELS), STEP)) == 1
    unit, share = normalize(raw), made.shares.double()
    i, j = made.views.t()
    rows = torch.cat([unit, normalize(share[:, None] * unit[i] + (1 - share[:, None]) * unit[j])])
    own = loss.unit_proxies()
    between = normalize(share[:, None] * own[LABELS[i]] + (1 - share[:, None]) * own[LABELS[j]])
    proxies = torch.cat([own, between])
    targets = LABELS.tolist() + [3, 4, 5]
    total = 0.0
    for row, y in zip(rows, targets, strict=True):
        logits = [math.exp(float(row @ proxy) / 0.3) for proxy in proxies]
        total -= math.log(logits[y] / sum(logits))
    assert float(value.detach()) == pytest.approx(total / 9, rel=1e-6)


@pytest.mark.parametrize('kind, options', [(ProxyAnchorLoss, {}), (SoftTripleLoss, dict(centers_per_class=2))])
def test_a_mixture_whose_whole_share_is_one_class_scores_like_a_further_class_with_its_proxies(kind, options):
    torch.manual_seed(0)
    loss, unit = kind(3, 3, **options).double(), normalize(raw_rows())
    anchors = Rows.of_batch(unit, LABELS)
    whole = torch.ones(1)
    mixture = Rows(unit[:1], LABELS[:1], torch.tensor([-1]), None, LABELS[1:2], whole)
    value = loss(PairBatch(anchors, Rows.cat([anchors, mixture])))
    wider = kind(4, 3, **options).double()
    k = wider.proxies_per_class
    with torch.no_grad():
        wider.proxies[: 3 * k] = loss.proxies
        wider.proxies[3 * k :] = loss.proxies[:k]
    further = Rows(unit[:1], torch.tensor([3]), torch.tensor([-1]))
    expected = wider(PairBatch(anchors, Rows.cat([anchors, further])))
    expected = (
        expected - wider.further_terms(None, wider.unit_proxies()) + loss.further_terms(None, loss.unit_proxies())
    )
    torch.testing.assert_close(value, expected)


@pytest.mark.parametrize(
    'config, words',
    [
        (dict(type='EmbeddingExpansion', num_points=0), 'num_points must be an integer of at least 1, got 0'),
        (dict(type='Metrix', num_partners=0), 'num_partners must be an integer of at least 1, got 0'),
        (dict(type='Metrix', partners='far'), "partners must be 'nearest' or 'random', got 'far'"),
        (dict(type='Metrix', alpha=0), 'alpha must be positive, got 0'),
        (dict(type='ProxySynthesis', ratio=2), r'ratio must be in \(0, 1\], got 2'),
        (dict(type='ProxySynthesis', alpha=-1), 'alpha must be positive, got -1'),
    ],
)
def test_bad_options_name_what_would_be_right(config, words):
    with pytest.raises(ValueError, match=words):
        MODELS.build(config)


def test_a_mixed_row_needs_both_columns():
    with pytest.raises(ValueError, match='second_labels and shares describe a mixed row together'):
        Rows(torch.zeros(1, 2), torch.tensor([0]), torch.tensor([0]), shares=torch.ones(1))
