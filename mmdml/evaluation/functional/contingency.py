"""How many samples each class and cluster share, and what follows from these counts."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import gammaln
from torch import Tensor

from mmdml.functional.inputs import to_keys

Keys = Tensor | np.ndarray | Sequence[int] | Sequence[str]


class Contingency(NamedTuple):
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


def _codes(name: str, keys: Keys) -> np.ndarray:
    """``(N,)`` int64 codes 0..C-1 of integers or strings; integers never pass through a float type."""
    rows = len(keys)
    if rows == 0:
        raise ValueError(f'{name} must be a vector of at least one entry, got none')
    return np.unique(to_keys(name, keys, rows), return_inverse=True)[1].astype(np.int64).reshape(-1)


def contingency(labels: Keys, clusters: Keys) -> Contingency:
    """Count how many samples each class and cluster share.

    Args:
        labels: ``(N,)`` classes, integers or strings.
        clusters: ``(N,)`` clusters, integers or strings.

    Raises:
        ValueError: if shapes do not fit or there are no samples.
        TypeError: if labels or clusters are neither integers nor strings.
    """
    labels, clusters = _codes('labels', labels), _codes('clusters', clusters)
    if len(labels) != len(clusters):
        raise ValueError(f'labels and clusters must be of one length, got {len(labels)} and {len(clusters)}')
    class_sizes, cluster_sizes = np.bincount(labels), np.bincount(clusters)
    places, cells = np.unique(labels * len(cluster_sizes) + clusters, return_counts=True)
    rows, columns = np.divmod(places, len(cluster_sizes))
    return Contingency(cells, class_sizes[rows], cluster_sizes[columns], class_sizes, cluster_sizes)


def entropy(sizes: np.ndarray) -> float:
    """Entropy of a partition with these sizes, in nats."""
    shares = sizes / sizes.sum()
    return float(-(shares * np.log(shares)).sum())


def mutual_information(table: Contingency) -> float:
    """Mutual information I of both partitions, in nats."""
    total = table.classes.sum()
    # Logarithms one by one: the product of both sizes is exact in float64 only below 2**53.
    logs = np.log(table.cells) + np.log(total) - np.log(table.cell_class) - np.log(table.cell_cluster)
    return max(float((table.cells * logs).sum()) / int(total), 0.0)


def expected_mutual_information(class_sizes: np.ndarray, cluster_sizes: np.ndarray) -> float:
    """E[I] of two random partitions with these sizes: cells are hypergeometric (Vinh et al., JMLR 2010, eq. 24a)."""
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


def pairs(sizes: np.ndarray) -> int:
    """Return the number of pairs of samples that share a part."""
    return int((sizes * (sizes - 1) // 2).sum())
