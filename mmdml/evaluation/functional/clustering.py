"""Clustering scores: how well k-means clusters of the embeddings agree with the classes."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.special import gammaln
from torch import Tensor

from mmdml.functional.inputs import check_finite, to_matrix

Keys = Tensor | np.ndarray | Sequence[int] | Sequence[str]

_MEANS: dict[str, Callable[[float, float], float]] = {
    'arithmetic': lambda first, second: (first + second) / 2,
    'geometric': lambda first, second: float(np.sqrt(first * second)),
}


class _Contingency(NamedTuple):
    """How many samples each class and cluster share; empty cells are not stored.

    Attributes:
        cells: ``(Z,)`` counts n_ij > 0.
        cell_class: ``(Z,)`` the size a_i of the class of each cell.
        cell_cluster: ``(Z,)`` the size b_j of the cluster of each cell.
        classes: ``(C,)`` sizes a_i.
        clusters: ``(K,)`` sizes b_j.
    """

    cells: np.ndarray
    cell_class: np.ndarray
    cell_cluster: np.ndarray
    classes: np.ndarray
    clusters: np.ndarray

    @property
    def is_perfect(self) -> bool:
        """Whether classes and clusters are the same partition under other names."""
        return len(self.cells) == len(self.classes) == len(self.clusters)


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
    return _nmi(_contingency(labels, clusters), average)


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
    return _ami(_contingency(labels, clusters))


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
    return _f1(_contingency(labels, clusters))


def _nmi(table: _Contingency, average: str) -> float:
    if table.is_perfect:
        return 1.0
    mean = _MEANS[average](_entropy(table.classes), _entropy(table.clusters))
    # The geometric mean is 0 if either side has one part only; then nothing is shared.
    return _mutual_information(table) / mean if mean > 0 else 0.0


def _ami(table: _Contingency) -> float:
    if table.is_perfect:
        # Of partitions into single samples, or into one part, there is only one: I = E[I] = mean entropy.
        return 1.0
    expected = _expected_mutual_information(table.classes, table.clusters)
    mean = _MEANS['arithmetic'](_entropy(table.classes), _entropy(table.clusters))
    return (_mutual_information(table) - expected) / (mean - expected)


def _f1(table: _Contingency) -> float:
    together, in_classes, in_clusters = map(_pairs, (table.cells, table.classes, table.clusters))
    return 2 * together / (in_classes + in_clusters) if in_classes + in_clusters else 1.0


#: name -> score in [0, 1] (AMI: up to 1) of a contingency table.
CLUSTERING_METRICS: dict[str, Callable[[_Contingency], float]] = {
    'NMI': partial(_nmi, average='arithmetic'),
    'NMI_geometric': partial(_nmi, average='geometric'),
    'AMI': _ami,
    'F1': _f1,
}


@torch.no_grad()
def clustering_scores(
    embeddings: Tensor | np.ndarray,
    labels: Keys,
    *,
    metrics: Sequence[str] = ('NMI', 'AMI', 'F1'),
    num_clusters: int | None = None,
    restarts: int = 1,
    repeats: int = 1,
    seed: int = 0,
    iterations: int = 25,
    normalize: bool = True,
) -> dict[str, float]:
    """NMI, AMI and F1 of k-means clusters of embeddings, against their classes.

    Song et al., CVPR 2016 (lifted structure) brought this protocol to metric learning: k-means with as many clusters as
    classes. The score depends on the seed: give ``repeats`` to know how much. One iteration takes ``2 N K D``
    operations (0.7 TFLOP for the test set of SOP at D = 512): a score for the end of training.

    Clusters come from :func:`mmdml.functional.kmeans.kmeans`: faiss, all samples in fp32 on the CPU, no empty clusters.

    Args:
        embeddings: ``(N, D)``, of any norm.
        labels: ``(N,)`` int64 values or strings.
        metrics: names from :data:`CLUSTERING_METRICS`: 'NMI' (arithmetic mean), 'NMI_geometric', 'AMI', 'F1'.
        num_clusters: K. Default: the number of classes.
        restarts: runs of k-means, of which the one with the lowest error is scored.
        repeats: clusterings scored, with seeds ``seed``, ``seed + 1``, ...
        seed: of the first clustering, in 0..2^31-1.
        iterations: of each run.
        normalize: cluster unit vectors, which suits embeddings that are searched by cosine.

    Returns:
        Scores by name, means over ``repeats``; with more than one also their standard deviations (of a sample, divisor
        ``repeats - 1``) as 'NMI_std', ...

    Raises:
        ValueError: if shapes do not fit, embeddings are not finite, K is above N, a name is unknown, or a setting is
            out of range.
        TypeError: if labels are neither integers nor strings.
    """
    # Here, because the pure scores above do not need faiss.
    from mmdml.functional.kmeans import kmeans

    unknown = [name for name in metrics if name not in CLUSTERING_METRICS]
    if unknown or not metrics:
        raise ValueError(f'unknown metrics {unknown}; known are {list(CLUSTERING_METRICS)}')
    if repeats < 1:
        raise ValueError(f'repeats must be at least 1, got {repeats}')
    embeddings = to_matrix('embeddings', embeddings, 'cpu')
    codes = _codes('labels', labels)
    if len(codes) != len(embeddings):
        raise ValueError(f'labels must have shape ({len(embeddings)},), one per embedding, got {codes.shape}')
    check_finite('the', embeddings)
    if normalize:
        embeddings = torch.nn.functional.normalize(embeddings)
    if num_clusters is None:
        num_clusters = int(codes.max()) + 1

    rows = []
    for repeat in range(repeats):
        clusters, _ = kmeans(embeddings, num_clusters, seed + repeat, restarts, iterations)
        table = _contingency(codes, clusters)
        rows.append([CLUSTERING_METRICS[name](table) for name in metrics])
    scores = dict(zip(metrics, np.mean(rows, axis=0).tolist(), strict=True))
    if repeats > 1:
        deviations = np.std(rows, axis=0, ddof=1).tolist()
        scores |= {f'{name}_std': deviation for name, deviation in zip(metrics, deviations, strict=True)}
    return scores


def _codes(name: str, keys: Any) -> np.ndarray:
    """``(N,)`` int64 codes 0..C-1 of integers or strings; integers never pass through a float type."""
    keys = np.asarray(keys.detach().cpu() if isinstance(keys, Tensor) else keys)
    if keys.ndim != 1 or len(keys) == 0:
        raise ValueError(f'{name} must be a vector of at least one entry, got shape {keys.shape}')
    if keys.dtype.kind not in 'iubUS':
        raise TypeError(f'{name} must be integers or strings, got {keys.dtype}')
    return np.unique(keys, return_inverse=True)[1].astype(np.int64).reshape(-1)


def _contingency(labels: Keys, clusters: Keys) -> _Contingency:
    labels, clusters = _codes('labels', labels), _codes('clusters', clusters)
    if len(labels) != len(clusters):
        raise ValueError(f'labels and clusters must be of one length, got {len(labels)} and {len(clusters)}')
    class_sizes, cluster_sizes = np.bincount(labels), np.bincount(clusters)
    places, cells = np.unique(labels * len(cluster_sizes) + clusters, return_counts=True)
    rows, columns = np.divmod(places, len(cluster_sizes))
    return _Contingency(cells, class_sizes[rows], cluster_sizes[columns], class_sizes, cluster_sizes)


def _entropy(sizes: np.ndarray) -> float:
    shares = sizes / sizes.sum()
    return float(-(shares * np.log(shares)).sum())


def _mutual_information(table: _Contingency) -> float:
    total = table.classes.sum()
    # Logarithms one by one: the product of both sizes is exact in float64 only below 2**53.
    logs = np.log(table.cells) + np.log(total) - np.log(table.cell_class) - np.log(table.cell_cluster)
    return max(float((table.cells * logs).sum()) / int(total), 0.0)


def _expected_mutual_information(class_sizes: np.ndarray, cluster_sizes: np.ndarray) -> float:
    """E[I] of two random partitions with these sizes: cells are hypergeometric (Vinh et al., eq. 24a)."""
    total = int(class_sizes.sum())
    log_factorial = gammaln(np.arange(total + 1) + 1.0)
    a_sizes, a_counts = np.unique(class_sizes, return_counts=True)
    b_sizes, b_counts = np.unique(cluster_sizes, return_counts=True)
    expected = 0.0
    for a, a_count in zip(a_sizes.tolist(), a_counts.tolist(), strict=True):
        # Every n that a cell of sizes (a, b) can hold, for all b in a row: at most N values, as distinct b sum to <= N.
        lowest = np.maximum(1, a + b_sizes - total)
        lengths = np.minimum(a, b_sizes) - lowest + 1
        n = np.arange(lengths.sum()) + np.repeat(lowest - (np.cumsum(lengths) - lengths), lengths)
        b = np.repeat(b_sizes, lengths)
        log_probability = (
            log_factorial[a]
            + log_factorial[b]
            + log_factorial[total - a]
            + log_factorial[total - b]
            - log_factorial[total]
            - log_factorial[n]
            - log_factorial[a - n]
            - log_factorial[b - n]
            - log_factorial[total - a - b + n]
        )
        information = n / total * (np.log(n) + np.log(total) - np.log(a) - np.log(b))
        expected += a_count * float((np.repeat(b_counts, lengths) * information * np.exp(log_probability)).sum())
    return expected


def _pairs(sizes: np.ndarray) -> int:
    """How many pairs of samples share a part."""
    return int((sizes * (sizes - 1) // 2).sum())
