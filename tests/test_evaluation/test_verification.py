"""ROC figures over pairs against scikit-learn, and threshold consistency against plain loops."""

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_curve

from mmdml.evaluation import threshold_consistency, verification_scores
from mmdml.evaluation.functional import roc
from mmdml.evaluation.functional.image_pairs import SIMILARITIES, PairScores

RATES = (1e-3, 1e-2, 0.1, 0.29, 0.5, 1)


def data(seed, dtype, rows=60):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 6, (rows,), generator=generator)
    x = torch.randn(6, 5, generator=generator, dtype=dtype)[labels]
    x += torch.randn(rows, 5, generator=generator, dtype=dtype)
    # Whole numbers: many pairs have one score.
    return (x.round() if seed % 2 else x), labels


def curve(pairs):
    scores, same_class = (torch.cat(part) for part in zip(*pairs, strict=True))
    return roc_curve(same_class.numpy(), scores.double().numpy(), drop_intermediate=False)


@pytest.mark.parametrize('distance', list(SIMILARITIES))
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
@pytest.mark.parametrize('seed', range(4))
def test_rates_and_thresholds_equal_scikit_learn(distance, dtype, seed):
    x, labels = data(seed, dtype)
    if distance == 'hyperbolic':  # Points of the unit ball.
        x = x / (1.1 * x.norm(dim=1).max())
    found = verification_scores(x, labels, fpr=RATES, distance=distance, block_size=7)
    fpr, tpr, thresholds = curve(PairScores(x, labels, None, distance, 7, None))
    crossing = np.argmax(fpr + tpr >= 1)
    low, high = crossing - 1, crossing
    share = (1 - fpr[low] - tpr[low]) / (fpr[high] - fpr[low] + tpr[high] - tpr[low])
    assert found['EER'] == pytest.approx(fpr[low] + share * (fpr[high] - fpr[low]), abs=1e-12)
    assert found['threshold@EER'] == thresholds[crossing]
    for rate in RATES:
        last = np.flatnonzero(fpr <= rate)[-1]
        assert found[f'TPR@FPR={rate:g}'] == pytest.approx(tpr[last], abs=1e-12)
        assert found[f'threshold@FPR={rate:g}'] == thresholds[last]


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
@pytest.mark.parametrize('distance', ['cosine', 'dot', 'euclidean'])
def test_scaling_all_embeddings_scales_the_thresholds_alone(distance, dtype):
    x, labels = data(0, dtype)
    expected = verification_scores(x, labels, distance=distance, fpr=(0.1,))
    opis = threshold_consistency(x, labels, distance=distance)
    for exponent in (-84, -60, -38, 38, 60, 84):
        scale = 2.0**exponent
        found = verification_scores(x * scale, labels, distance=distance, fpr=(0.1,))
        unit = dict(cosine=1, dot=scale * scale, euclidean=scale)[distance]
        assert found == {name: value * unit if 'threshold' in name else value for name, value in expected.items()}
        assert threshold_consistency(x * scale, labels, distance=distance) == opis


def test_every_pair_is_compared_once_whatever_the_block():
    x, labels = data(0, torch.float32, 23)
    for block_size in (1, 7, 23, 100):
        pairs = PairScores(x, labels, None, 'cosine', block_size, None)
        assert sum(len(scores) for scores, _ in pairs) == 23 * 22 // 2
        assert sum(len(scores) for scores, _, _ in pairs.by_class()) == 23 * 22


def test_rows_of_one_image_form_no_pair():
    x, labels = torch.eye(3).repeat(2, 1), [0, 1, 2] * 2
    assert verification_scores(x, labels)['EER'] == 0
    with pytest.raises(ValueError, match='no pair of images of one class among the 6 images'):
        verification_scores(x, labels, ids=labels)


def test_separable_and_inseparable_classes():
    x, labels = torch.eye(4).repeat(3, 1), [0, 1, 2, 3] * 3
    scores = verification_scores(x, labels, fpr=[0.01])
    assert scores == {'EER': 0, 'threshold@EER': 1, 'TPR@FPR=0.01': 1, 'threshold@FPR=0.01': 1}
    # All pairs have one score: they are accepted together or not at all.
    scores = verification_scores(torch.ones(6, 2), [0, 0, 1, 1, 2, 2], fpr=[0.5, 1])
    assert scores['EER'] == 0.5 and scores['TPR@FPR=0.5'] == 0 and scores['threshold@FPR=0.5'] == float('inf')
    assert scores['TPR@FPR=1'] == 1


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_equal_rows_of_several_classes_have_one_score_whatever_the_block(dtype):
    generator = torch.Generator().manual_seed(1)
    labels = torch.randint(0, 3, (60,), generator=generator)
    few = torch.randn(6, 64, generator=generator, dtype=dtype)[torch.randint(0, 6, (60,), generator=generator)]
    # More than a tenth of the pairs of two classes are equal rows: no threshold lets fewer pass.
    found = [verification_scores(few, labels, fpr=[0.1], block_size=size) for size in (1, 2, 7, 1024)]
    assert found[0]['TPR@FPR=0.1'] == 0 and found[0]['threshold@FPR=0.1'] == float('inf')
    assert all(scores == found[0] for scores in found)
    # Fractions of small whole numbers under a root: many pairs have one cosine.
    lattice = torch.randint(-2, 3, (60, 4), generator=generator).to(dtype)
    squares = (lattice @ lattice.T).square() / (lattice.square().sum(1)[:, None] * lattice.square().sum(1)).clamp_min(1)
    cosines = ((lattice @ lattice.T).sign() * squares.sqrt()).double().round(decimals=5)
    first, second = np.triu_indices(60, 1)
    fpr, tpr, _ = roc_curve((labels[first] == labels[second]).numpy(), cosines[first, second].numpy())
    found = [verification_scores(lattice, labels, fpr=[0.1, 0.3], block_size=size) for size in (1, 7, 1024)]
    assert all(scores == found[0] for scores in found)
    for rate in (0.1, 0.3):
        assert found[0][f'TPR@FPR={rate:g}'] == pytest.approx(tpr[fpr <= rate].max(), abs=1e-12)


def test_memory_does_not_grow_with_the_number_of_pairs(monkeypatch):
    x, labels = data(0, torch.float32, 200)
    largest = 0
    count = torch.bincount

    def watched(places, **options):
        nonlocal largest
        largest = max(largest, len(places))
        return count(places, **options)

    monkeypatch.setattr(roc.torch, 'bincount', watched)
    verification_scores(x, labels, block_size=8)
    assert largest <= 8 * 200


def test_all_figures_take_as_many_passes_as_a_score_has_pieces_of_16_bits(monkeypatch):
    passes = 0
    blocks = PairScores._blocks

    def counted(self):
        nonlocal passes
        passes += 1
        return blocks(self)

    monkeypatch.setattr(PairScores, '_blocks', counted)
    x, labels = data(0, torch.float32, 100)
    verification_scores(x, labels, fpr=(1e-3, 1e-2, 0.1))
    assert passes == 2


@pytest.mark.parametrize(
    'options, words',
    [
        (dict(fpr=[0]), r'fpr must hold rates in \(0, 1\], got \[0\]'),
        (dict(distance='cosin'), "unknown distance 'cosin'.*did you mean 'cosine'"),
        (dict(block_size=0), 'block_size must be at least 1'),
        (dict(labels=[0] * 60), 'no pair of images of two classes'),
    ],
)
def test_bad_input_is_named(options, words):
    x, labels = data(0, torch.float32)
    with pytest.raises(ValueError, match=words):
        verification_scores(x, **{'labels': labels, **options})


def test_a_single_rate_is_a_list_of_one():
    x, labels = data(0, torch.float32)
    assert verification_scores(x, labels, fpr=0.1) == verification_scores(x, labels, fpr=[0.1])


def test_threshold_consistency_equals_plain_loops():
    x, labels = torch.randint(-3, 4, (40, 4), generator=torch.Generator().manual_seed(0)).double(), np.arange(40) % 7
    found = threshold_consistency(x, labels, fpr_range=(0.05, 0.4), points=21, distance='dot', block_size=9)
    scores = (x @ x.T).numpy()
    ends = verification_scores(x, labels, fpr=(0.05, 0.4), distance='dot')
    thresholds = np.linspace(ends['threshold@FPR=0.4'], ends['threshold@FPR=0.05'], 21)
    others = ~np.eye(40, dtype=bool)
    utility = np.zeros((7, 21))
    for label in range(7):
        own = (labels == label)[:, None]
        positive, negative = scores[own & own.T & others], scores[own & ~own.T]
        for place, threshold in enumerate(thresholds):
            tpr, tnr = (positive >= threshold).mean(), (negative < threshold).mean()
            utility[label, place] = 2 * tpr * tnr / (tpr + tnr) if tpr + tnr else 0
    width = thresholds[-1] - thresholds[0]
    assert found['OPIS'] == pytest.approx(np.trapezoid(utility.var(0), thresholds) / width, abs=1e-12)
    assert found['utility'] == pytest.approx(np.trapezoid(utility.mean(0), thresholds) / width, abs=1e-12)
    assert found['OPIS'] > 1e-3


def test_classes_that_behave_alike_are_consistent():
    # Regular: every class is the image of every other under a rotation of the axes.
    x, labels = torch.eye(4).repeat(3, 1) + 0.1, [0, 1, 2, 3] * 3
    assert threshold_consistency(x, labels, fpr_range=(0.1, 1))['OPIS'] == pytest.approx(0, abs=1e-15)
    with pytest.raises(ValueError, match='fpr_range must be two rising rates'):
        threshold_consistency(x, labels, fpr_range=(0.1, 0.01))
