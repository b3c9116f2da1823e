"""Ranks by hyperbolic distance equal those of a brute force in long doubles, on data that rounding would decide."""

import numpy as np
import pytest
import test_exact_ranks
import torch
from test_exact_ranks import check, clusters, tight

from mmdml.evaluation.functional import retrieval_scores, sharded_retrieval_scores, verification_scores
from mmdml.evaluation.functional.image_pairs import hyperbolic_similarity
from mmdml.models import PoincareBall

DTYPES = pytest.mark.parametrize('dtype', [torch.float32, torch.float64], ids=str)


@pytest.fixture(autouse=True)
def hyperbolic_reference(monkeypatch):
    """The reference of the other distances, with this one."""

    def scores(query, gallery, distance, digits=None):
        query, gallery = (np.asarray(side.double().numpy(), np.longdouble) for side in (query, gallery))
        room = [1 - np.square(side).sum(1) for side in (query, gallery)]
        apart = np.stack([np.square(row - gallery).sum(1) for row in query])
        return -apart / (room[0][:, None] * room[1][None, :])

    monkeypatch.setattr(test_exact_ranks, 'reference_scores', scores)


def in_ball(points, longest):
    """Points times a power of two, the longest at least half as long as ``longest``."""
    return points * 2.0 ** torch.floor(torch.log2(longest / points.norm(dim=1).max()))


@DTYPES
@pytest.mark.parametrize('longest', [0.99, 0.5, 1e-3])
def test_random_and_clustered_rows(dtype, longest):
    for number, classes, dim, noise in ((70, 4, 16, 4.0), (110, 20, 7, 1.0)):
        points, labels = clusters(number, classes, dim, noise)
        points = in_ball(points, longest).to(dtype)
        check(points, labels, distance='hyperbolic', rows=17)
        half = number // 3
        check(points[:half], labels[:half], points[half:], labels[half:], 'hyperbolic')


@DTYPES
@pytest.mark.parametrize('angle', [1e-2, 1e-4, 1e-6])
def test_tight_rows(dtype, angle):
    points, labels = tight(angle)
    check(in_ball(points, 0.9).to(dtype), labels, distance='hyperbolic', rows=17)


@DTYPES
def test_duplicates_tie(dtype):
    points, _ = clusters(20, 5, 33, 1.0)
    random = np.random.default_rng(1)
    points = in_ball(points[torch.from_numpy(random.integers(0, 20, 60))], 0.9).to(dtype)
    pessimistic, optimistic = check(points, random.integers(0, 3, 60), distance='hyperbolic')
    assert pessimistic != optimistic


def test_rows_near_the_boundary():
    points, labels = clusters(80, 6, 5, 1.0)
    lengths = 1 - torch.logspace(-6, -1, 80, dtype=torch.float64)[torch.randperm(80)][:, None]
    points = points / points.norm(dim=1, keepdim=True) * lengths
    check(points.float(), labels, distance='hyperbolic')


def test_pairs_of_fp32_rows_at_the_rim_are_as_far_apart_as_in_fp64():
    points = torch.randn(40, 64, dtype=torch.float64)
    points = (points / points.norm(dim=1, keepdim=True) * (1 - 2e-8)).float()
    assert (points.square().sum(1) >= 1).any() and (points.double().square().sum(1) < 1).all()
    expected = hyperbolic_similarity(points.double(), points.double())
    torch.testing.assert_close(hyperbolic_similarity(points, points), expected.float(), rtol=1e-4, atol=0)


def test_the_distance_is_that_of_the_space_and_scores_agree_between_ranks_and_pairs():
    points, labels = clusters(60, 5, 6, 1.0)
    points = in_ball(points, 0.9)
    expected = PoincareBall(1.0).similarity(points, points)
    torch.testing.assert_close(hyperbolic_similarity(points, points), expected, rtol=1e-5, atol=1e-5)
    scores = retrieval_scores(points, labels, distance='hyperbolic')
    assert scores == sharded_retrieval_scores(points, labels, distance='hyperbolic')
    assert scores != retrieval_scores(points, labels, distance='cosine')
    assert verification_scores(points, torch.from_numpy(labels), distance='hyperbolic')['EER'] < 0.5


def test_points_outside_the_ball_are_refused():
    with pytest.raises(
        ValueError, match='points inside the unit ball, as HyperbolicEmbedding gives them, got a row of'
    ):
        retrieval_scores(torch.eye(4), [0, 0, 1, 1], distance='hyperbolic')
