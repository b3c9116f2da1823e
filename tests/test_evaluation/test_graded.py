"""NDCG with graded relevance against scikit-learn."""

import numpy as np
import pytest
import torch
from sklearn.metrics import ndcg_score

from mmdml.evaluation import graded_ndcg, hierarchy_gains, retrieval_scores

LABELS = np.arange(30) % 8
X = torch.randn(30, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
GAINS = hierarchy_gains({label: (label % 2, label % 4, label) for label in range(8)})


@pytest.mark.parametrize('block_size', [7, 256])
@pytest.mark.parametrize('k', [None, 1, 5])
def test_graded_ndcg_equals_scikit_learn(k, block_size):
    unit = torch.nn.functional.normalize(X).numpy()
    scores, gains = unit @ unit.T, GAINS(LABELS, LABELS)
    expected = np.mean([ndcg_score(*(np.delete(side[i], i)[None] for side in (gains, scores)), k=k) for i in range(30)])
    assert graded_ndcg(X, LABELS, GAINS, k=k, block_size=block_size) == pytest.approx(expected, abs=1e-12)
    sides = (X[:10], LABELS[:10], GAINS, X[10:], LABELS[10:])
    expected = np.mean([ndcg_score(gains[i : i + 1, 10:], scores[i : i + 1, 10:], k=k) for i in range(10)])
    assert graded_ndcg(*sides, k=k) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize('distance', ['cosine', 'dot', 'euclidean'])
def test_gains_of_equal_labels_alone_are_the_measure_of_ranks(distance):
    def same(query, gallery):
        return (query[:, None] == gallery[None]).astype(float)

    for k, name in ((None, 'NDCG'), (3, 'NDCG@3')):
        expected = retrieval_scores(X, LABELS, metrics=[name], distance=distance)[name]
        assert graded_ndcg(X, LABELS, same, k=k, distance=distance) == pytest.approx(expected, abs=1e-12)


def test_near_rows_and_rows_of_any_length_are_ranked_as_in_fp64():
    def same(query, gallery):
        return (query[:, None] == gallery[None]).astype(float)

    # All cosines are 1 to six digits.
    near = (X + 2000 * torch.tensor([1, -2, 3, 1])).float()
    for rows, distance in (
        (near, 'cosine'),
        *((X.float() * 2.0**power, distance) for power in (-84, 84) for distance in ('dot', 'euclidean')),
    ):
        expected = retrieval_scores(rows, LABELS, metrics=['NDCG'], distance=distance)['NDCG']
        assert graded_ndcg(rows, LABELS, same, distance=distance) == pytest.approx(expected, abs=1e-12)


def test_a_hierarchy_gains_the_share_of_common_levels_from_the_root_down():
    gains = hierarchy_gains(
        {'crow': ('bird', 'corvid', 1), 'jay': ('bird', 'corvid', 2), 'bat': ('mammal', 'corvid', 1)}
    )
    names = np.array(['crow', 'jay', 'bat'])
    assert gains(names[:1], names).tolist() == pytest.approx(np.array([[1, 2 / 3, 0]]))


def test_ties_do_not_flatter():
    # All scores are equal: the row without a gain comes first.
    assert graded_ndcg(torch.ones(1, 2), [0], GAINS, torch.ones(2, 2), [1, 0], k=1) == 0


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_cosines_that_are_equal_but_for_rounding_tie(dtype):
    def same(query, gallery):
        return (query[:, None] == gallery[None]).astype(float)

    random = np.random.default_rng(0)
    for rows in (random.integers(0, 2, (40, 12)), random.integers(-1, 2, (40, 5)), random.integers(-2, 3, (40, 3))):
        rows, labels = torch.from_numpy(rows).to(dtype), random.integers(0, 3, 40)
        expected = retrieval_scores(rows, labels, metrics=['NDCG'])['NDCG']
        assert graded_ndcg(rows, labels, same) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    'settings, words',
    [
        (dict(k=2.5), 'k must be an integer of at least 1, got 2.5'),
        (dict(k='3'), "k must be an integer of at least 1, got '3'"),
        (dict(k=True), 'k must be an integer of at least 1, got True'),
        (dict(block_size=0), 'block_size must be an integer of at least 1, got 0'),
        (dict(block_size=-1), 'block_size must be an integer of at least 1, got -1'),
    ],
)
def test_settings_that_are_no_counts_are_named(settings, words):
    with pytest.raises(ValueError, match=words):
        graded_ndcg(X, LABELS, GAINS, **settings)


@pytest.mark.parametrize(
    'change, words',
    [
        (lambda gains: gains[:, :1], r'must be \(30, 30\), got \(30, 1\)'),
        (lambda gains: gains[0], r'must be \(30, 30\), got \(30,\)'),
        (lambda gains: np.where(gains == 1, np.nan, gains), 'at least 0 and finite, got nan'),
        (lambda gains: np.where(gains == 1, np.inf, gains), 'at least 0 and finite, got inf'),
    ],
)
def test_gains_that_do_not_fit_are_refused_and_leave_no_query_out(change, words):
    with pytest.raises(ValueError, match=words):
        graded_ndcg(X, LABELS, lambda query, gallery: change(GAINS(query, gallery)))


def test_bad_input_is_named():
    with pytest.raises(ValueError, match='the hierarchy lacks the label 8'):
        graded_ndcg(X, LABELS + 2, GAINS)
    with pytest.raises(ValueError, match='equally many levels'):
        hierarchy_gains({0: (1,), 1: (1, 2)})
    with pytest.raises(ValueError, match='gains must be at least 0'):
        graded_ndcg(X, LABELS, lambda query, gallery: np.full((len(query), len(gallery)), -1))
    with pytest.raises(ValueError, match='for none of the 30 queries'):
        graded_ndcg(X, LABELS, lambda query, gallery: np.zeros((len(query), len(gallery))))
