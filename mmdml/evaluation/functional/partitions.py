"""How well two partitions of the same samples agree: classes and clusters."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from .contingency import (
    Contingency,
    Keys,
    contingency,
    entropy,
    expected_mutual_information,
    mutual_information,
    pairs,
)

_MEANS: dict[str, Callable[[float, float], float]] = {
    'arithmetic': lambda first, second: (first + second) / 2,
    'geometric': lambda first, second: float(np.sqrt(first * second)),
}


def normalized_mutual_information(labels: Keys, clusters: Keys, average: str = 'arithmetic') -> float:
    r"""NMI of a clustering: mutual information with the classes, divided by the mean of both entropies.

    With :math:`n_{ij}` samples of class i in cluster j, :math:`a_i` in class i, :math:`b_j` in cluster j, N in all:

    .. math::
        I = \sum_{ij} \frac{n_{ij}}{N} \log \frac{N n_{ij}}{a_i b_j}, \quad
        H_a = -\sum_i \frac{a_i}{N} \log \frac{a_i}{N}, \quad
        \mathrm{NMI} = \frac{I}{(H_a + H_b) / 2}

    The arithmetic mean is what Song et al., CVPR 2016 define for metric learning and what scikit-learn >= 0.22 takes by
    default; older scikit-learn took the geometric mean :math:`\sqrt{H_a H_b}` (Strehl and Ghosh, JMLR 2002), which is
    never smaller a score. NMI is not adjusted for chance and grows with the number of clusters: compare it only at the
    same number, or see :func:`adjusted_mutual_information`.

    Args:
        labels: ``(N,)`` classes, integers or strings.
        clusters: ``(N,)`` clusters, integers or strings; which name a cluster has does not matter.
        average: 'arithmetic' or 'geometric'.

    Returns:
        A score in [0, 1]; 1 for the same partition, 0 if only one of both has a single part.

    Raises:
        ValueError: if shapes do not fit, there are no samples, or ``average`` is unknown.
        TypeError: if labels or clusters are neither integers nor strings.
    """
    if average not in _MEANS:
        raise ValueError(f'unknown average {average!r}; known are {list(_MEANS)}')
    return _nmi(contingency(labels, clusters), average)


def adjusted_mutual_information(labels: Keys, clusters: Keys) -> float:
    r"""AMI of a clustering: mutual information adjusted for what chance gives.

    Vinh et al., JMLR 2010, with the arithmetic mean of the entropies. In the symbols of
    :func:`normalized_mutual_information`, over all pairs of partitions with these sizes:

    .. math::
        \mathrm{AMI} = \frac{I - E[I]}{(H_a + H_b) / 2 - E[I]}, \quad
        E[I] = \sum_{ij} \sum_{n} \frac{n}{N} \log \frac{N n}{a_i b_j} \,
        \frac{\binom{b_j}{n} \binom{N - b_j}{a_i - n}}{\binom{N}{a_i}}

    E[I] is exact. It is summed over distinct sizes, of which N samples have at most :math:`\sqrt{2N}` on each side:
    11,316 classes in as many clusters cost no more than a few hundred of them.

    Args:
        labels: ``(N,)`` classes, integers or strings.
        clusters: ``(N,)`` clusters, integers or strings.

    Returns:
        1 for the same partition, 0 on average for random ones, less for those that agree less than chance.

    Raises:
        ValueError: if shapes do not fit or there are no samples.
        TypeError: if labels or clusters are neither integers nor strings.
    """
    return _ami(contingency(labels, clusters))


def pairwise_f1(labels: Keys, clusters: Keys) -> float:
    r"""F1 of a clustering: it decides for each pair of samples whether they belong together.

    Manning et al., Introduction to Information Retrieval, 2008, Sec. 16.3; for metric learning Song et al., CVPR 2016.
    In the symbols of :func:`normalized_mutual_information`:

    .. math::
        P = \frac{\sum_{ij} \binom{n_{ij}}{2}}{\sum_j \binom{b_j}{2}}, \quad
        R = \frac{\sum_{ij} \binom{n_{ij}}{2}}{\sum_i \binom{a_i}{2}}, \quad
        \mathrm{F1} = \frac{2 P R}{P + R}

    Args:
        labels: ``(N,)`` classes, integers or strings.
        clusters: ``(N,)`` clusters, integers or strings.

    Returns:
        A score in [0, 1]; 1 for the same partition, so also if all samples are alone in both.

    Raises:
        ValueError: if shapes do not fit or there are no samples.
        TypeError: if labels or clusters are neither integers nor strings.
    """
    return _f1(contingency(labels, clusters))


def adjusted_rand_index(labels: Keys, clusters: Keys) -> float:
    r"""ARI of a clustering: agreement of both partitions on pairs of samples, adjusted for what chance gives.

    Hubert and Arabie, Journal of Classification 1985. In the symbols of :func:`normalized_mutual_information`:

    .. math::
        S = \sum_{ij} \binom{n_{ij}}{2}, \quad A = \sum_i \binom{a_i}{2}, \quad B = \sum_j \binom{b_j}{2}, \quad
        \mathrm{ARI} = \frac{S - A B / \binom{N}{2}}{(A + B) / 2 - A B / \binom{N}{2}}

    Args:
        labels: ``(N,)`` classes, integers or strings.
        clusters: ``(N,)`` clusters, integers or strings.

    Returns:
        1 for the same partition, 0 on average for random ones, down to -0.5.

    Raises:
        ValueError: if shapes do not fit or there are no samples.
        TypeError: if labels or clusters are neither integers nor strings.
    """
    return _ari(contingency(labels, clusters))


def homogeneity(labels: Keys, clusters: Keys) -> float:
    r"""Homogeneity of a clustering: whether each cluster has samples of one class only.

    Rosenberg and Hirschberg, EMNLP 2007: :math:`h = I / H_a`, in the symbols of :func:`normalized_mutual_information`.
    Completeness is the same with both sides exchanged, and NMI with the arithmetic mean is the harmonic mean of both
    (the V-measure).

    Args:
        labels: ``(N,)`` classes, integers or strings.
        clusters: ``(N,)`` clusters, integers or strings.

    Returns:
        A score in [0, 1]; 1 if there is one class only.

    Raises:
        ValueError: if shapes do not fit or there are no samples.
        TypeError: if labels or clusters are neither integers nor strings.
    """
    return _homogeneity(contingency(labels, clusters))


def completeness(labels: Keys, clusters: Keys) -> float:
    r"""Completeness of a clustering: whether each class lies in one cluster only, :math:`c = I / H_b`.

    See :func:`homogeneity`, which is the same with both sides exchanged.
    """
    return homogeneity(clusters, labels)


def _nmi(table: Contingency, average: str) -> float:
    if table.is_perfect:
        return 1.0
    mean = _MEANS[average](entropy(table.classes), entropy(table.clusters))
    # The geometric mean is 0 if either side has one part only; then nothing is shared.
    return mutual_information(table) / mean if mean > 0 else 0.0


def _ami(table: Contingency) -> float:
    if table.is_perfect:
        # Of partitions into single samples, or into one part, there is only one: I = E[I] = mean entropy.
        return 1.0
    expected = expected_mutual_information(table.classes, table.clusters)
    mean = _MEANS['arithmetic'](entropy(table.classes), entropy(table.clusters))
    return (mutual_information(table) - expected) / (mean - expected)


def _f1(table: Contingency) -> float:
    together, in_classes, in_clusters = map(pairs, (table.cells, table.classes, table.clusters))
    return 2 * together / (in_classes + in_clusters) if in_classes + in_clusters else 1.0


def _ari(table: Contingency) -> float:
    if table.is_perfect:
        return 1.0
    together, in_classes, in_clusters = map(pairs, (table.cells, table.classes, table.clusters))
    total = int(table.classes.sum())
    expected = in_classes * in_clusters / (total * (total - 1) // 2)
    return (together - expected) / ((in_classes + in_clusters) / 2 - expected)


def _homogeneity(table: Contingency) -> float:
    total = entropy(table.classes)
    return mutual_information(table) / total if total > 0 else 1.0


def _completeness(table: Contingency) -> float:
    total = entropy(table.clusters)
    return mutual_information(table) / total if total > 0 else 1.0


#: name -> score in [0, 1] (AMI and ARI: up to 1) of a contingency table.
CLUSTERING_METRICS: dict[str, Callable[[Contingency], float]] = {
    'NMI': partial(_nmi, average='arithmetic'),
    'NMI_geometric': partial(_nmi, average='geometric'),
    'AMI': _ami,
    'F1': _f1,
    'ARI': _ari,
    'homogeneity': _homogeneity,
    'completeness': _completeness,
}


def agreement(labels: Keys, clusters: Keys, metrics: Sequence[str]) -> list[float]:
    """Scores of :data:`CLUSTERING_METRICS` by name, from one table of counts.

    Raises:
        ValueError: if shapes do not fit or there are no samples.
        TypeError: if labels or clusters are neither integers nor strings.
    """
    table = contingency(labels, clusters)
    return [CLUSTERING_METRICS[name](table) for name in metrics]
