"""Clusters with classes to learn from, and bisection."""

import pytest
import torch

from mmdml.engine.division import (
    bisect,
    class_table,
    every_cluster_has_classes,
    kmeans_with_classes,
    match_clusters,
    overlap_share,
)
from mmdml.functional.kmeans import kmeans


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


def test_consecutive_clusterings_of_two_super_clusters_overlap_almost_fully():
    rows, truth = blobs([30, 30], seed=1)
    first, _ = kmeans(rows, 2, seed=1)
    second, _ = kmeans(rows + 0.1 * vectors(60, seed=2), 2, seed=2)
    assert same_partition(first, truth)
    assert overlap_share(match_clusters(second, first, 2), first) == 1


def test_trials_go_on_until_every_cluster_has_classes():
    rows, labels = vectors(24, dim=2), torch.arange(24) % 4
    plain = {seed: every_cluster_has_classes(kmeans(rows, 3, seed)[0], labels, 3) for seed in range(60)}
    start = next(seed for seed in range(50) if not plain[seed] and any(plain[s] for s in range(seed, seed + 10)))
    lucky = next(seed for seed in range(start, 60) if plain[seed])
    assignment, centroids, works = kmeans_with_classes(rows, labels, 3, seed=start)
    assert works and lucky > start
    assert torch.equal(assignment, kmeans(rows, 3, lucky)[0]) and torch.equal(centroids, kmeans(rows, 3, lucky)[1])


def test_the_last_trial_is_kept_if_none_works():
    rows, labels = vectors(30), torch.arange(30)
    assignment, _, works = kmeans_with_classes(rows, labels, 3, seed=7, trials=4)
    assert not works and torch.equal(assignment, kmeans(rows, 3, seed=10)[0])


def test_no_trials_are_an_error():
    with pytest.raises(ValueError, match='trials must be at least 1, got 0'):
        kmeans_with_classes(vectors(5), torch.zeros(5, dtype=torch.int64), 2, trials=0)


@pytest.mark.parametrize(
    'labels, expected',
    [
        ([0, 0, 1, 1, 0, 0, 1, 1], True),
        ([0, 0, 1, 1, 0, 0, 0, 0], False),
        ([0, 0, 1, 1, 0, 0, 0, 1], False),
        ([0, 1, 2, 3, 0, 0, 1, 1], False),
    ],
)
def test_a_cluster_needs_two_classes_with_two_images(labels, expected):
    assignment = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])
    assert every_cluster_has_classes(assignment, torch.tensor(labels), 2) is expected


def test_an_empty_cluster_has_no_classes():
    assert not every_cluster_has_classes(torch.zeros(4, dtype=torch.int64), torch.tensor([0, 0, 1, 1]), 2)


def test_children_of_c_are_2c_and_2c_plus_1_and_their_halves_are_found():
    rows, truth = blobs([10, 12, 14, 16])
    # Parent 0 holds blobs 3 and 1, parent 1 holds blobs 0 and 2.
    parents = torch.tensor([1, 0, 1, 0])[truth]
    children = bisect(rows, parents, 2)
    assert children.dtype == torch.int64 and torch.equal(children // 2, parents)
    assert same_partition(children, truth)


def test_bisection_repeated_merges_back_level_by_level():
    rows = vectors(64)
    levels = [torch.zeros(64, dtype=torch.int64)]
    for _ in range(3):
        levels.append(bisect(rows, levels[-1], 2 ** (len(levels) - 1)))
    assert levels[-1].unique().tolist() == list(range(8))
    for parents, children in zip(levels, levels[1:], strict=False):
        assert torch.equal(children // 2, parents)


def test_bisection_is_two_means_on_the_images_of_the_parent_alone():
    rows, parents = vectors(50), torch.arange(50) % 3 - 1
    children = bisect(rows, parents, 2, seed=3)
    for parent in (0, 1):
        images = parents == parent
        assert torch.equal(children[images] - 2 * parent, kmeans(rows[images], 2, seed=3)[0])
    assert (children[parents == -1] == -1).all()


def test_parents_of_no_or_one_image_are_bisected_without_inventing_images():
    rows = vectors(5)
    parents = torch.tensor([0, -1, 2, 2, 2])
    children = bisect(rows, parents, 3)
    assert children[:2].tolist() == [0, -1]
    assert sorted(children[2:].unique().tolist()) == [4, 5]
    assert parents.tolist() == [0, -1, 2, 2, 2], 'the input was changed'


def test_parents_of_equal_images_keep_them_together():
    children = bisect(torch.ones(4, 3), torch.tensor([0, 0, 1, 1]), 2)
    assert children[0] == children[1] and children[2] == children[3]
    assert torch.equal(children // 2, torch.tensor([0, 0, 1, 1]))


def test_bisection_with_labels_tries_again_like_kmeans_with_classes():
    rows, labels = vectors(16, dim=2), torch.arange(16) % 4
    works = {seed: every_cluster_has_classes(kmeans(rows, 2, seed)[0], labels, 2) for seed in range(40)}
    start = next(seed for seed in range(30) if not works[seed] and any(works[s] for s in range(seed, seed + 10)))
    parents = torch.zeros(16, dtype=torch.int64)
    assert not every_cluster_has_classes(bisect(rows, parents, 1, seed=start), labels, 2)
    assert every_cluster_has_classes(bisect(rows, parents, 1, seed=start, labels=labels), labels, 2)


@pytest.mark.parametrize('assignment', [[0, 1, 2], [0, -2, 1]])
def test_bisection_of_unknown_parents_is_an_error(assignment):
    with pytest.raises(ValueError, match=r'assignment must hold clusters 0\.\.1, or -1 for none'):
        bisect(vectors(3), torch.tensor(assignment), 2)


def test_bisection_of_other_images_is_an_error():
    with pytest.raises(ValueError, match=r'one entry for each of 3 vectors, got \(2,\)'):
        bisect(vectors(3), torch.tensor([0, 0]), 1)


def test_each_image_has_one_cluster_before_filtering():
    rows, labels = vectors(80), torch.arange(80) % 9
    assignment, _ = kmeans(rows, 5)
    assert assignment.min() >= 0 and assignment.max() <= 4
    assert int(class_table(assignment, labels, 5).sum()) == 80
