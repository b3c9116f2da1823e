"""Measures of ranks against scikit-learn and plain loops over sorted results."""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import ndcg_score

from mmdml.evaluation import retrieval_scores, sharded_retrieval_scores

ROWS = 60
LABELS = np.random.default_rng(0).integers(0, 9, ROWS)
X = np.random.default_rng(1).normal(size=(9, 5))[LABELS] + np.random.default_rng(2).normal(size=(ROWS, 5))


def hits():
    """For each query its results from the nearest on: whether each is a positive."""
    unit = X / np.linalg.norm(X, axis=1, keepdims=True)
    scores = unit @ unit.T
    np.fill_diagonal(scores, -np.inf)
    order = np.argsort(-scores, axis=1)[:, :-1]
    return LABELS[order] == LABELS[:, None], -np.sort(-scores, axis=1)[:, :-1]


def mean(value):
    return np.mean([value(row.tolist()) for row in hits()[0] if row.any()])


@pytest.mark.parametrize('score', [retrieval_scores, sharded_retrieval_scores])
@pytest.mark.parametrize('block_size', [7, 1024])
def test_recall_of_information_retrieval_and_the_rank_of_the_last_positive_equal_plain_loops(score, block_size):
    expected = {f'IRRecall@{k}': mean(lambda row, k=k: sum(row[:k]) / sum(row)) for k in (1, 5, 59, 100)}
    expected['mINP'] = mean(lambda row: sum(row) / (len(row) - row[::-1].index(True)))
    assert score(X, LABELS, metrics=list(expected), block_size=block_size) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize('score', [retrieval_scores, sharded_retrieval_scores])
def test_ndcg_equals_scikit_learn(score):
    found, scores = hits()
    rows = [i for i in range(ROWS) if found[i].any()]
    expected = {
        name: np.mean([ndcg_score(found[i : i + 1], scores[i : i + 1], k=k) for i in rows])
        for name, k in (('NDCG', None), ('NDCG@1', 1), ('NDCG@5', 5), ('NDCG@59', 59))
    }
    assert score(X, LABELS, metrics=list(expected)) == pytest.approx(expected, abs=1e-12)


def test_values_by_hand():
    # The positives of the query stand at ranks 2 and 4 of 5.
    gallery = torch.tensor([[5.0], [4.0], [3.0], [2.0], [1.0]])
    scores = retrieval_scores(
        torch.ones(1, 1),
        [1],
        gallery,
        [0, 1, 0, 1, 0],
        distance='dot',
        metrics=['mINP', 'IRRecall@2', 'NDCG@3', 'NDCG'],
    )
    best = 1 + 1 / math.log2(3)
    assert scores['mINP'] == 2 / 4 and scores['IRRecall@2'] == 1 / 2
    assert scores['NDCG@3'] == pytest.approx(1 / math.log2(3) / best)
    assert scores['NDCG'] == pytest.approx((1 / math.log2(3) + 1 / math.log2(5)) / best)


def test_a_gallery_of_a_single_positive_and_one_without_any():
    x = torch.eye(2)
    names = ['mINP', 'IRRecall@1', 'NDCG', 'NDCG@2']
    assert set(retrieval_scores(x[:1], [0], x[:1], [0], metrics=names).values()) == {1.0}
    assert set(retrieval_scores(x[:1], [0], x, [1, 1], metrics=names, no_positive='miss').values()) == {0.0}


@pytest.mark.parametrize('name', ['IRRecall@2', 'NDCG@3'])
def test_faiss_gives_the_same_shallow_measures(name):
    x = X.astype(np.float32)
    assert retrieval_scores(x, LABELS, metrics=[name], backend='faiss') == pytest.approx(
        retrieval_scores(x, LABELS, metrics=[name])
    )
