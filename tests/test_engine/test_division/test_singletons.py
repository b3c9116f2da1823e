"""Lone images of a class in a cluster."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmdml.engine.division import class_table, drop_singletons, move_singletons


def loop_drop(assignment, labels):
    kept = list(assignment)
    for cluster in set(assignment) - {-1}:
        for label in set(labels):
            images = [i for i, pair in enumerate(zip(assignment, labels, strict=True)) if pair == (cluster, label)]
            if len(images) == 1:
                kept[images[0]] = -1
    return kept


def loop_move(assignment, labels, vectors, centroids):
    """Class by class; distances from differences in float64."""
    moved = list(assignment)
    distance = ((vectors.double()[:, None] - centroids.double()) ** 2).sum(2).numpy()
    for label in set(labels):
        images = [i for i in range(len(labels)) if labels[i] == label and assignment[i] >= 0]
        held = {cluster: [i for i in images if assignment[i] == cluster] for cluster in range(len(centroids))}
        company = [cluster for cluster in held if len(held[cluster]) >= 2]
        lone = [i for i in images if len(held[assignment[i]]) == 1]
        if len(images) == 1:
            moved[images[0]] = -1
        elif company:
            for i in lone:
                moved[i] = min(company, key=lambda cluster: distance[i, cluster])
        elif lone:
            target = min((c for c in held if held[c]), key=lambda c: sum(distance[i, c] for i in images))
            for i in images:
                moved[i] = target
    return moved


@st.composite
def divisions(draw):
    """Assignment with unassigned images, labels, vectors and centroids of a small data set."""
    size, num_clusters = draw(st.integers(0, 40)), draw(st.integers(1, 5))
    num_classes, seed = draw(st.integers(1, 12)), draw(st.integers(0, 2**16))
    random = np.random.default_rng(seed)
    return (
        torch.from_numpy(random.integers(-1, num_clusters, size)),
        torch.from_numpy(random.integers(0, num_classes, size)),
        torch.from_numpy(random.standard_normal((size, 3))),
        torch.from_numpy(random.standard_normal((num_clusters, 3))),
    )


@settings(max_examples=60, deadline=None)
@given(divisions())
def test_drop_equals_the_loop_over_clusters_and_classes(division):
    assignment, labels, _, _ = division
    before = assignment.clone()
    kept = drop_singletons(assignment, labels)
    assert kept.assignment.tolist() == loop_drop(assignment.tolist(), labels.tolist())
    newly = int(((kept.assignment < 0) & (before >= 0)).sum())
    assert kept.lone == kept.dropped == newly / max(len(labels), 1)
    assert torch.equal(assignment, before), 'the input was changed'


@settings(max_examples=100, deadline=None)
@given(divisions())
def test_move_equals_the_loop_over_classes(division):
    kept = move_singletons(*division)
    assignment, labels, vectors, centroids = division
    assert kept.assignment.tolist() == loop_move(assignment.tolist(), labels.tolist(), vectors, centroids)


@settings(max_examples=60, deadline=None)
@given(divisions())
def test_no_class_is_alone_in_a_cluster_afterwards_and_only_single_images_lost_theirs(division):
    assignment, labels, vectors, centroids = division
    num_clusters = len(centroids)
    dropped, moved = drop_singletons(assignment, labels), move_singletons(assignment, labels, vectors, centroids)
    for kept in (dropped, moved):
        assert not (class_table(kept.assignment, labels, num_clusters) == 1).any()
    assert moved.lone == dropped.lone
    lost = (moved.assignment < 0) & (assignment >= 0)
    images_of_class = class_table(assignment, labels, num_clusters).sum(0)
    single = (assignment >= 0) & (images_of_class[labels] == 1) if len(labels) else lost
    assert torch.equal(lost, single)
    assert moved.dropped == int(lost.sum()) / max(len(labels), 1)
    stayed = dropped.assignment >= 0
    assert torch.equal(moved.assignment[stayed], assignment[stayed])
    assert (moved.assignment[assignment < 0] == -1).all()


def test_a_lone_image_joins_its_class_in_the_nearest_cluster_that_has_it():
    # Cluster 1 is nearest to the last image, but holds none of its class; cluster 2 is nearer than cluster 0.
    assignment = torch.tensor([0, 0, 2, 2, 1, 1, 3])
    labels = torch.tensor([5, 5, 5, 5, 6, 6, 5])
    centroids = torch.tensor([[0.0], [9.0], [6.0], [10.0]])
    vectors = centroids[assignment]
    kept = move_singletons(assignment, labels, vectors, centroids)
    assert kept.assignment.tolist() == [0, 0, 2, 2, 1, 1, 2]
    assert (kept.lone, kept.dropped) == (1 / 7, 0)


def test_a_class_that_is_alone_everywhere_meets_in_the_cluster_nearest_to_all_its_images():
    assignment, labels = torch.tensor([0, 1, 2]), torch.tensor([4, 4, 4])
    centroids = torch.tensor([[0.0], [4.0], [6.0]])
    assert move_singletons(assignment, labels, centroids.clone(), centroids).assignment.tolist() == [1, 1, 1]


def test_the_only_image_of_a_class_is_left_out():
    assignment, labels = torch.tensor([0, 0, 1]), torch.tensor([0, 0, 1])
    kept = move_singletons(assignment, labels, torch.zeros(3, 2), torch.zeros(2, 2))
    assert kept.assignment.tolist() == [0, 0, -1] and kept.dropped == 1 / 3


def test_a_cluster_of_nothing_but_lone_images_is_emptied():
    assignment, labels = torch.tensor([0, 0, 0, 1, 1, 1, 1]), torch.tensor([0, 1, 2, 0, 0, 1, 1])
    vectors = torch.arange(7.0)[:, None]
    assert drop_singletons(assignment, labels).assignment.tolist() == [-1, -1, -1, 1, 1, 1, 1]
    moved = move_singletons(assignment, labels, vectors, torch.tensor([[1.0], [4.0]]))
    assert moved.assignment.tolist() == [1, 1, -1, 1, 1, 1, 1]


def test_centroids_of_another_float_type_are_accepted():
    assignment, labels = torch.tensor([0, 0, 1]), torch.tensor([3, 3, 3])
    vectors, centroids = torch.zeros(3, 2, dtype=torch.float64), torch.ones(2, 2, dtype=torch.float32)
    assert move_singletons(assignment, labels, vectors, centroids).assignment.tolist() == [0, 0, 0]


def test_class_table_counts_images_of_each_class_in_each_cluster():
    table = class_table(torch.tensor([0, 0, 2, -1, 2]), torch.tensor([1, 1, 0, 0, 3]), 3)
    assert table.tolist() == [[0, 2, 0, 0], [0, 0, 0, 0], [1, 0, 0, 1]]


@pytest.mark.parametrize(
    'assignment, labels, error, message',
    [
        ([0, -2], [0, 0], ValueError, r'assignment must hold clusters 0\.\.1, or -1 for none, got -2\.\.0'),
        ([0, 2], [0, 0], ValueError, r'assignment must hold clusters 0\.\.1, or -1 for none, got 0\.\.2'),
        ([0, 1], [0, -1], ValueError, 'labels must not be negative, got -1'),
        ([0, 1], [0, 1, 1], ValueError, r'one entry per image, got \(2,\) and \(3,\)'),
        ([0, 1], [0.0, 1.0], TypeError, 'labels must be integers, got torch.float32'),
        ([True, False], [0, 1], TypeError, 'assignment must be integers, got torch.bool'),
    ],
)
def test_what_does_not_fit_is_named(assignment, labels, error, message):
    with pytest.raises(error, match=message):
        class_table(torch.tensor(assignment), torch.tensor(labels), 2)


def test_vectors_and_centroids_that_do_not_fit_are_named():
    assignment = labels = torch.tensor([0, 0, 1])
    with pytest.raises(ValueError, match=r'vectors must be \(3, D\).* got \(2, 4\) and \(2, 4\)'):
        move_singletons(assignment, labels, torch.zeros(2, 4), torch.zeros(2, 4))
    with pytest.raises(ValueError, match=r'centroids \(K, D\), got \(3, 4\) and \(2, 5\)'):
        move_singletons(assignment, labels, torch.zeros(3, 4), torch.zeros(2, 5))
