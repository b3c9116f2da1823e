"""Clustering scores against scikit-learn, references from the definitions, and cases with a known answer."""

import itertools
import math
import tracemalloc

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from sklearn.metrics import (
    adjusted_mutual_info_score,
    adjusted_rand_score,
    completeness_score,
    homogeneity_score,
    normalized_mutual_info_score,
)
from sklearn.metrics.cluster import pair_confusion_matrix

from mmdml.evaluation.functional.clustering import clustering_scores
from mmdml.evaluation.functional.partitions import (
    adjusted_mutual_information,
    adjusted_rand_index,
    completeness,
    homogeneity,
    normalized_mutual_information,
    pairwise_f1,
)
from mmdml.functional.kmeans import kmeans


def reference_f1(labels, clusters):
    """Pair by pair."""
    pairs = list(itertools.combinations(range(len(labels)), 2))
    truth = {(i, j) for i, j in pairs if labels[i] == labels[j]}
    found = {(i, j) for i, j in pairs if clusters[i] == clusters[j]}
    if not truth and not found:
        return 1.0
    precision = len(truth & found) / len(found) if found else 0.0
    recall = len(truth & found) / len(truth) if truth else 0.0
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def mutual_information(labels, clusters):
    total, size = 0.0, len(labels)
    for a, b in set(zip(labels, clusters, strict=True)):
        n = sum(x == a and y == b for x, y in zip(labels, clusters, strict=True))
        total += n / size * math.log(n * size / (labels.count(a) * clusters.count(b)))
    return total


def partitions(size):
    return st.lists(st.integers(0, 6), min_size=size, max_size=size)


two_partitions = st.integers(1, 40).flatmap(lambda size: st.tuples(partitions(size), partitions(size)))


def same_partition(labels, clusters):
    return len(set(labels)) == len(set(clusters)) == len(set(zip(labels, clusters, strict=True)))


@settings(max_examples=150, deadline=None)
@given(two_partitions)
def test_scores_equal_scikit_learn_and_the_pairwise_definition(pair):
    labels, clusters = pair
    for average in ('arithmetic', 'geometric'):
        expected = normalized_mutual_info_score(labels, clusters, average_method=average)
        assert normalized_mutual_information(labels, clusters, average) == pytest.approx(expected, abs=1e-9)
    assert pairwise_f1(labels, clusters) == pytest.approx(reference_f1(labels, clusters), abs=1e-12)
    assert adjusted_rand_index(labels, clusters) == pytest.approx(adjusted_rand_score(labels, clusters), abs=1e-9)
    assert homogeneity(labels, clusters) == pytest.approx(homogeneity_score(labels, clusters), abs=1e-9)
    assert completeness(labels, clusters) == pytest.approx(completeness_score(labels, clusters), abs=1e-9)
    # scikit-learn divides rounding by rounding where all samples are alone on both sides.
    expected = 1.0 if same_partition(labels, clusters) else adjusted_mutual_info_score(labels, clusters)
    assert adjusted_mutual_information(labels, clusters) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(('rows', 'classes', 'clusters'), [(3000, 17, 30), (2000, 600, 500), (1500, 1500, 40)])
def test_scores_of_many_samples_equal_scikit_learn(rows, classes, clusters):
    random = np.random.default_rng(rows)
    labels = random.integers(0, classes, rows)
    assigned = np.where(random.random(rows) < 0.6, labels % clusters, random.integers(0, clusters, rows))
    expected = adjusted_mutual_info_score(labels, assigned)
    assert adjusted_mutual_information(labels, assigned) == pytest.approx(expected, abs=1e-9)
    expected = normalized_mutual_info_score(labels, assigned)
    assert normalized_mutual_information(labels, assigned) == pytest.approx(expected, abs=1e-9)
    assert adjusted_rand_index(labels, assigned) == pytest.approx(adjusted_rand_score(labels, assigned), abs=1e-9)
    assert homogeneity(labels, assigned) == pytest.approx(homogeneity_score(labels, assigned), abs=1e-9)
    (_, false_found), (missed, found) = pair_confusion_matrix(labels, assigned)
    assert pairwise_f1(labels, assigned) == pytest.approx(2 * found / (2 * found + false_found + missed), abs=1e-12)


def test_expected_mutual_information_is_the_mean_over_all_permutations():
    labels, clusters = [0, 0, 0, 1, 1, 2], [0, 0, 1, 1, 2, 2]
    chance = np.mean([mutual_information(labels, list(order)) for order in itertools.permutations(clusters)])
    entropies = [mutual_information(side, side) for side in (labels, clusters)]
    expected = (mutual_information(labels, clusters) - chance) / (np.mean(entropies) - chance)
    assert adjusted_mutual_information(labels, clusters) == pytest.approx(expected, abs=1e-12)


def test_a_hand_made_clustering():
    # One class whole, the other cut in two: I = H(classes) = log 2, H(clusters) = 1.5 log 2.
    labels, clusters = [0, 0, 0, 0, 1, 1, 1, 1], [0, 0, 0, 0, 1, 1, 2, 2]
    assert normalized_mutual_information(labels, clusters) == pytest.approx(1 / 1.25)
    assert normalized_mutual_information(labels, clusters, 'geometric') == pytest.approx(1 / math.sqrt(1.5))
    # 8 of 12 pairs found, none wrong.
    assert pairwise_f1(labels, clusters) == pytest.approx(2 * 8 / (8 + 12))


@pytest.mark.parametrize('score', [normalized_mutual_information, adjusted_mutual_information, pairwise_f1])
def test_the_same_partition_scores_one_under_any_names(score):
    for labels in ([0, 0, 1, 1, 2], [5], [3, 3, 3], list(range(9))):
        assert score(labels, [f'cluster {100 - label}' for label in labels]) == 1.0


def test_one_cluster_of_several_classes_says_nothing():
    labels, clusters = [0, 0, 1, 1], [7, 7, 7, 7]
    for first, second in ((labels, clusters), (clusters, labels)):
        assert normalized_mutual_information(first, second) == 0.0
        assert normalized_mutual_information(first, second, 'geometric') == 0.0
        assert adjusted_mutual_information(first, second) == pytest.approx(0, abs=1e-15)
    assert pairwise_f1(labels, clusters) == pytest.approx(2 * 2 / (2 + 6))


def test_single_samples_as_clusters_are_flattered_by_nmi_but_not_by_ami():
    labels, clusters = [0, 0, 0, 1, 1, 1], list(range(6))
    assert normalized_mutual_information(labels, clusters) > 0.5
    assert adjusted_mutual_information(labels, clusters) == pytest.approx(0, abs=1e-12)
    assert pairwise_f1(labels, clusters) == 0.0


def test_labels_beyond_the_precision_of_floats_stay_apart():
    labels = torch.tensor([2**53, 2**53, 2**53 + 1, 2**53 + 1, -1])
    assert normalized_mutual_information(labels, [0, 0, 1, 1, 2]) == 1.0
    assert normalized_mutual_information(labels, [0, 0, 0, 0, 1]) < 1.0


def test_as_many_clusters_as_sop_has_classes_need_no_dense_table():
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(11316), random.integers(2, 9, 11316))
    clusters = np.where(random.random(len(labels)) < 0.7, labels, random.integers(0, 11316, len(labels)))
    tracemalloc.start()
    ami = adjusted_mutual_information(labels, clusters)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # A dense table of bits would hold 16 MB, one of float64 a gigabyte.
    assert peak < 64e6
    assert 0.5 < ami < normalized_mutual_information(labels, clusters)


def blobs(rows=60, classes=5, dim=8, noise=0.05):
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(rows) % classes
    return torch.randn(classes, dim, generator=generator)[labels] + noise * torch.randn(
        rows, dim, generator=generator
    ), labels


def test_separate_classes_score_one_in_all():
    x, labels = blobs()
    scores = clustering_scores(x, labels, metrics=('NMI', 'NMI_geometric', 'AMI', 'F1'), restarts=5)
    assert scores == {'NMI': 1.0, 'NMI_geometric': 1.0, 'AMI': 1.0, 'F1': 1.0}


def test_scores_are_those_of_the_clusters_of_unit_vectors():
    x, labels = blobs(noise=1.0)
    clusters, _ = kmeans(torch.nn.functional.normalize(x), 5, seed=3, restarts=2, iterations=7)
    scores = clustering_scores(x * torch.rand(60, 1), labels, seed=3, restarts=2, iterations=7)
    expected = {
        'NMI': normalized_mutual_information(labels, clusters),
        'AMI': adjusted_mutual_information(labels, clusters),
        'F1': pairwise_f1(labels, clusters),
    }
    assert scores == pytest.approx(expected, abs=1e-12)
    assert 0 < scores['AMI'] < 1


def test_without_normalisation_the_length_counts():
    x = torch.tensor([[1.0, 0], [1.01, 0], [9, 0], [9.01, 0]])
    assert clustering_scores(x, [0, 0, 1, 1], metrics=['F1'], normalize=False) == {'F1': 1.0}
    assert clustering_scores(x, [0, 0, 1, 1], metrics=['F1'])['F1'] < 1


def test_repeats_give_mean_and_sample_deviation_over_seeds():
    x, labels = blobs(noise=1.5)
    single = [clustering_scores(x, labels, metrics=['NMI'], seed=seed)['NMI'] for seed in (4, 5, 6)]
    scores = clustering_scores(x, labels, metrics=['NMI'], seed=4, repeats=3)
    assert scores == pytest.approx({'NMI': np.mean(single), 'NMI_std': np.std(single, ddof=1)}, abs=1e-12)
    assert scores['NMI_std'] > 0


def test_number_of_clusters_can_differ_from_that_of_classes():
    x, labels = blobs()
    assert clustering_scores(x.numpy(), labels.numpy().astype(str), num_clusters=1) == pytest.approx(
        {'NMI': 0.0, 'AMI': 0.0, 'F1': pairwise_f1(labels, torch.zeros(60, dtype=torch.long))}, abs=1e-12
    )


@pytest.mark.parametrize(
    ('change', 'error', 'message'),
    [
        (dict(metrics=['NMII']), ValueError, r"unknown metrics \['NMII'\]"),
        (dict(metrics=[]), ValueError, 'unknown metrics'),
        (dict(metrics='NMI'), ValueError, "metrics must be a sequence of names, got the single string 'NMI'"),
        (dict(repeats=0), ValueError, 'repeats must be an integer and at least 1, got 0'),
        (dict(num_clusters=61), ValueError, r'num_clusters must be 1..60.*got 61'),
        (dict(labels=[0, 1]), ValueError, r'labels must have shape \(60,\)'),
        (dict(labels=np.zeros(60, np.float32)), TypeError, 'labels must be integers or strings, got float32'),
        (dict(embeddings=torch.full((60, 2), float('nan'))), ValueError, 'not finite'),
        (dict(embeddings=torch.zeros(60)), ValueError, r'must be a matrix \(N, D\)'),
    ],
)
def test_bad_input_is_named(change, error, message):
    x, labels = blobs()
    with pytest.raises(error, match=message):
        clustering_scores(**{'embeddings': x, 'labels': labels} | change)


def test_bad_label_vectors_are_named():
    with pytest.raises(ValueError, match='one length, got 2 and 3'):
        pairwise_f1([0, 1], [0, 1, 2])
    with pytest.raises(ValueError, match="unknown average 'max'"):
        normalized_mutual_information([0], [0], 'max')
    with pytest.raises(ValueError, match='at least one entry'):
        pairwise_f1(np.zeros(0, int), np.zeros(0, int))


def test_labels_of_pandas_and_all_measures_by_name():
    x, labels = torch.eye(3).repeat(4, 1), np.array(['ash', 'beech', 'cedar'] * 4, dtype=object)
    names = ('NMI', 'NMI_geometric', 'AMI', 'F1', 'ARI', 'homogeneity', 'completeness')
    assert clustering_scores(x, labels, metrics=names) == pytest.approx(dict.fromkeys(names, 1.0))
    with pytest.raises(ValueError, match="unknown metrics .'Homogeneity'.*did you mean 'homogeneity'"):
        clustering_scores(x, labels, metrics=['Homogeneity'])


@pytest.mark.parametrize('scale', [1e-20, 1e20])
def test_norms_of_any_size_have_the_scores_of_unit_vectors(scale):
    random = np.random.default_rng(0)
    rows = (random.normal(size=(4, 5))[np.arange(40) % 4] + random.normal(size=(40, 5))).astype(np.float32)
    labels = np.arange(40) % 4
    assert clustering_scores(rows * np.float32(scale), labels) == pytest.approx(clustering_scores(rows, labels))
