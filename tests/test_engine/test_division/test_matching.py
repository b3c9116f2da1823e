"""Matching of new clusters to learners: identities, and the released inversion."""

import itertools
import math

import numpy as np
import pytest
import torch

from mmdml.engine.division import match_clusters, overlap_share, released_match_clusters


def random_clusters(num_clusters, size=60, seed=0, lowest=0):
    random = np.random.default_rng(seed)
    return random.integers(lowest, num_clusters, size)


def overlap(new, old):
    return int(((new == old) & (old >= 0)).sum())


@pytest.mark.parametrize('names', [(1, 2, 0), tuple(np.random.default_rng(3).permutation(8))])
def test_a_pure_permutation_is_undone_exactly(names):
    names = np.array(names)
    assert not np.array_equal(names[names], np.arange(len(names))), 'an involution would not show an inverted matching'
    old = random_clusters(len(names), size=200)
    assert np.array_equal(match_clusters(names[old], old, len(names)), old)


@pytest.mark.parametrize('num_clusters', range(1, 7))
@pytest.mark.parametrize('seed', range(3))
def test_overlap_is_that_of_the_best_of_all_permutations(num_clusters, seed):
    new, old = random_clusters(num_clusters, seed=seed), random_clusters(num_clusters, seed=seed + 10, lowest=-1)
    best = max(overlap(np.array(names)[new], old) for names in itertools.permutations(range(num_clusters)))
    matched = match_clusters(new, old, num_clusters)
    assert overlap(matched, old) == best >= overlap(new, old)
    assert len(set(zip(new, matched, strict=True))) == len(set(new)) == len(set(matched)), 'not a renaming'


def test_maximum_overlap_is_minimum_symmetric_difference():
    num_clusters = 5
    new, old = random_clusters(num_clusters, seed=1), random_clusters(num_clusters, seed=2, lowest=-1)
    matched = match_clusters(new, old, num_clusters)

    def cost(renamed):
        return sum(int(((renamed == k) ^ (old == k)).sum()) for k in range(num_clusters))

    best = min(cost(np.array(names)[new]) for names in itertools.permutations(range(num_clusters)))
    assert cost(matched) == best == len(new) + int((old >= 0).sum()) - 2 * overlap(matched, old)


def test_images_without_an_old_cluster_have_no_say():
    old = np.array([0, 1, -1, -1, -1])
    new = np.array([1, 0, 0, 0, 0])
    assert match_clusters(new, old, 2).tolist() == [0, 1, 1, 1, 1]


def test_an_old_cluster_that_lost_all_its_images_takes_what_is_left():
    old = np.array([0, 0, -1, -1, 2, 2])
    new = np.array([1, 1, 0, 0, 2, 2])
    assert match_clusters(new, old, 3).tolist() == [0, 0, 1, 1, 2, 2]


def test_without_any_old_cluster_names_stay():
    new = random_clusters(4)
    assert np.array_equal(match_clusters(new, np.full_like(new, -1), 4), new)


def test_new_images_without_cluster_stay_without():
    old = np.array([0, 0, 1, 1, 2, 2])
    assert match_clusters(np.array([1, -1, 2, 2, 0, -1]), old, 3).tolist() == [0, -1, 1, 1, 2, -1]


@pytest.mark.parametrize('dtype', [torch.int64, torch.int32, torch.uint8])
def test_tensors_come_back_as_tensors_of_their_type(dtype):
    old = torch.tensor([0, 0, 1, 2])
    new = torch.tensor([1, 1, 2, 0], dtype=dtype)
    matched = match_clusters(new, old, 3)
    assert isinstance(matched, torch.Tensor) and matched.dtype == dtype
    assert matched.tolist() == old.tolist() and new.tolist() == [1, 1, 2, 0]


@pytest.mark.parametrize('dtype', [np.int64, np.int32, np.uint8])
def test_arrays_come_back_as_arrays_of_their_type(dtype):
    new = np.array([1, 1, 2, 0], dtype=dtype)
    matched = match_clusters(new, torch.tensor([0, 0, 1, 2]), 3)
    assert isinstance(matched, np.ndarray) and matched.dtype == dtype and matched.tolist() == [0, 0, 1, 2]


def test_the_released_matching_scatters_a_3_cycle_and_gets_a_swap_right():
    old = random_clusters(3)
    cycle, swap = np.array([1, 2, 0])[old], np.array([1, 0, 2])[old]
    assert overlap_share(released_match_clusters(cycle, old, 3), old) == 0
    assert overlap_share(match_clusters(cycle, old, 3), old) == 1
    assert np.array_equal(released_match_clusters(swap, old, 3), old)


def test_the_released_matching_is_the_inverse_renaming():
    num_clusters = 8
    old = random_clusters(num_clusters, size=400)
    new = np.random.default_rng(5).permutation(num_clusters)[old]
    right, released = match_clusters(new, old, num_clusters), released_match_clusters(new, old, num_clusters)
    names = dict(zip(new.tolist(), right.tolist(), strict=True))
    inverse = {target: source for source, target in names.items()}
    assert released.tolist() == [inverse[cluster] for cluster in new.tolist()] != right.tolist()


def test_overlap_share_counts_only_images_with_a_cluster_in_both():
    assert overlap_share(torch.tensor([0, 1, 2, -1, 1]), np.array([0, 1, 1, -1, -1])) == pytest.approx(2 / 3)


def test_overlap_share_of_nothing_is_nan():
    assert math.isnan(overlap_share(np.array([0, 1]), np.array([-1, -1])))


@pytest.mark.parametrize(
    'new, old, error, message',
    [
        ([0, 3], [0, 1], ValueError, r'new must hold clusters 0\.\.2, or -1 for none, got 0\.\.3'),
        ([0, 1], [-2, 1], ValueError, r'old must hold clusters 0\.\.2, or -1 for none, got -2\.\.1'),
        ([0, 1], [0, 1, 2], ValueError, 'same images, got 2 and 3'),
        ([0.0, 1.0], [0, 1], TypeError, 'new must be integers, one cluster per image, got float64'),
        ([[0, 1]], [[0, 1]], ValueError, r'new must have shape \(N,\), one cluster per image, got \(1, 2\)'),
    ],
)
def test_wrong_labels_are_named(new, old, error, message):
    with pytest.raises(error, match=message):
        match_clusters(np.array(new), np.array(old), 3)


def test_no_clusters_are_an_error():
    with pytest.raises(ValueError, match='num_clusters must be at least 1, got 0'):
        match_clusters(np.array([], dtype=np.int64), np.array([], dtype=np.int64), 0)
