"""K-means: edge cases, identities, toy data."""

import logging

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmdml.functional.kmeans import cluster_means, kmeans


def vectors(size, dim=4, seed=0):
    return torch.randn(size, dim, generator=torch.Generator().manual_seed(seed))


def blobs(sizes, gap=20.0, dim=4, seed=0):
    """Far-apart Gaussian clusters in mixed order; the vectors and the cluster of each."""
    truth = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    truth = truth[torch.randperm(len(truth), generator=torch.Generator().manual_seed(seed))]
    centers = torch.eye(len(sizes), dim) * gap
    return centers[truth] + vectors(len(truth), dim, seed), truth


def same_partition(left, right):
    return torch.equal(left[:, None] == left, right[:, None] == right)


def error(rows, assignment, centroids):
    return float((rows - centroids[assignment]).square().sum())


def test_far_apart_clusters_are_found():
    rows, truth = blobs([15, 20, 25])
    assignment, centroids = kmeans(rows, 3, restarts=5)
    assert assignment.dtype == torch.int64 and centroids.shape == (3, 4)
    assert same_partition(assignment, truth)
    assert torch.allclose(centroids, cluster_means(rows, assignment, 3), atol=1e-4)


def test_every_vector_belongs_to_its_nearest_centroid():
    rows = vectors(200)
    assignment, centroids = kmeans(rows, 7)
    assert torch.equal(assignment, torch.cdist(rows, centroids).argmin(1))
    assert (torch.bincount(assignment, minlength=7) > 0).all()


def test_the_same_seed_gives_the_same_bits_and_another_seed_others():
    rows = vectors(300, dim=8)
    first, again, other = kmeans(rows, 6, seed=5), kmeans(rows, 6, seed=5), kmeans(rows, 6, seed=6)
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])


def test_the_global_random_state_neither_matters_nor_changes():
    rows = vectors(100)
    torch.manual_seed(0)
    state = torch.get_rng_state()
    first, _ = kmeans(rows, 4)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(99)
    assert torch.equal(kmeans(rows, 4)[0], first)


def test_restarts_find_a_lower_error():
    rows, truth = blobs([10] * 6, dim=6)
    seeds = range(20)
    single = {seed: error(rows, *kmeans(rows, 6, seed)) for seed in seeds}
    best = error(rows, truth, cluster_means(rows, truth, 6))
    unlucky = max(seeds, key=single.get)
    assert single[unlucky] > 2 * best
    assert error(rows, *kmeans(rows, 6, unlucky, restarts=20)) == pytest.approx(best, rel=1e-3)


def test_iterations_are_not_ignored():
    rows = vectors(400, dim=8)
    assert error(rows, *kmeans(rows, 10, iterations=1)) > error(rows, *kmeans(rows, 10, iterations=50))


def test_all_vectors_are_clustered_not_a_sample():
    # By default faiss samples 256 vectors per cluster; then the centroid of one cluster would not be the mean of all.
    rows = vectors(2000, dim=2)
    _, centroids = kmeans(rows, 1)
    assert torch.allclose(centroids[0], rows.mean(0), atol=1e-5)


def test_one_cluster_holds_everything():
    assert kmeans(vectors(9), 1)[0].tolist() == [0] * 9


def test_as_many_clusters_as_vectors_separate_them_all():
    rows = vectors(9)
    assignment, centroids = kmeans(rows, 9)
    assert sorted(assignment.tolist()) == list(range(9)) and torch.equal(centroids[assignment], rows)


def test_nothing_is_printed(capfd):
    kmeans(vectors(12), 6)
    assert capfd.readouterr() == ('', '')


def test_input_is_not_changed_and_may_be_of_any_float_type_and_layout():
    rows = vectors(40).half().float()
    before = rows.clone()
    expected, _ = kmeans(rows, 4)
    assert torch.equal(rows, before)
    for variant in (rows.half(), rows.double(), rows.t().contiguous().t(), rows.clone().requires_grad_()):
        assert torch.equal(kmeans(variant, 4)[0], expected)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 7), min_size=1, max_size=40), st.data())
def test_no_cluster_is_empty_if_there_are_enough_distinct_vectors(values, data):
    """Heavy repetition, where faiss itself leaves clusters empty."""
    num_clusters = data.draw(st.integers(1, len(set(values))))
    rows = vectors(8, dim=3)[values]
    assignment, centroids = kmeans(rows, num_clusters, seed=data.draw(st.integers(0, 50)), iterations=5)
    assert (torch.bincount(assignment, minlength=num_clusters) > 0).all()
    distances = (rows.double()[:, None] - centroids.double()).norm(dim=2)
    own = distances.gather(1, assignment[:, None]).squeeze(1)
    assert (own <= distances.min(1).values + 1e-3).all()


def test_repeated_vectors_leave_no_cluster_empty():
    rows = torch.cat([torch.zeros(50, 3), torch.ones(1, 3), 2 * torch.ones(1, 3)])
    for seed in range(10):
        assignment, _ = kmeans(rows, 3, seed)
        assert same_partition(assignment, rows[:, 0].long())


def test_too_few_distinct_vectors_leave_clusters_empty_with_a_warning(caplog):
    rows = torch.tensor([[0.1, 0.2]] * 5 + [[3.0, 0.7]])
    with caplog.at_level(logging.WARNING, 'mmdml'):
        assignment, _ = kmeans(rows, 4)
    assert same_partition(assignment, torch.tensor([0] * 5 + [1]))
    assert '2 of 4 clusters are empty: the 6 vectors have only 2 distinct values' in caplog.text


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(num_clusters=6), r'num_clusters must be 1\.\.5, the number of vectors, got 6'),
        (dict(num_clusters=0), r'num_clusters must be 1\.\.5, the number of vectors, got 0'),
        (dict(num_clusters=2, seed=2**31), r'seed must be an integer and in 0\.\.2\^31-1, got 2147483648'),
        (dict(num_clusters=2, seed=-1), r'seed must be an integer and in 0\.\.2\^31-1, got -1'),
        (dict(num_clusters=2, restarts=0), 'restarts must be an integer and at least 1, got 0'),
        (dict(num_clusters=2, iterations=0), 'iterations must be an integer and at least 1, got 0'),
    ],
)
def test_impossible_settings_are_errors(options, message):
    with pytest.raises(ValueError, match=message):
        kmeans(vectors(5), **options)


@pytest.mark.parametrize('value', [float('nan'), float('inf'), -float('inf')])
def test_vectors_that_are_not_finite_are_named(value):
    rows = vectors(6)
    rows[3, 1] = rows[5, 0] = value
    with pytest.raises(ValueError, match='not finite .* in 2 of 6 rows, first in 3'):
        kmeans(rows, 2)


@pytest.mark.parametrize('rows', [torch.zeros(4), torch.zeros(4, 2, dtype=torch.int64)])
def test_what_is_no_float_matrix_is_an_error(rows):
    with pytest.raises(ValueError, match='vectors must be a float matrix'):
        kmeans(rows, 2)


def test_cluster_means_leave_out_images_without_cluster_and_are_zero_for_empty_clusters():
    rows = torch.tensor([[1.0, 2.0], [3.0, 6.0], [7.0, 7.0], [100.0, 100.0]])
    means = cluster_means(rows, torch.tensor([0, 0, 2, -1]), 3)
    assert means.tolist() == [[2, 4], [0, 0], [7, 7]]
    assert cluster_means(rows.half(), torch.tensor([0, 0, 2, -1]), 3).dtype == torch.float32


@pytest.mark.parametrize('factor', [1e30, 1e38, 1e-25, 2.0**60])
def test_values_whose_squares_leave_fp32_give_the_same_clusters(factor):
    rows = vectors(40, dim=8).clamp(-3, 3)
    assignment, centroids = kmeans(rows, 4, seed=1)
    scaled, far = kmeans(rows * factor, 4, seed=1)
    assert torch.equal(scaled, assignment)
    torch.testing.assert_close(far / factor, centroids)


def test_values_beyond_fp32_are_refused_before_faiss():
    rows = vectors(40, dim=8).double()
    rows[7, 3] = 1e39
    with pytest.raises(ValueError, match='beyond fp32. in 1 of 40 rows, first in 7'):
        kmeans(rows, 4)
