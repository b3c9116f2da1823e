"""Clustering scores: how well k-means clusters of the embeddings agree with the classes."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from mmdml.functional.inputs import check_finite, to_keys, to_matrix
from mmdml.functional.space import unit_rows
from mmdml.utils.near_names import did_you_mean
from mmdml.utils.numbers import is_whole

from .partitions import CLUSTERING_METRICS, Keys, agreement


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
    """NMI, AMI, F1 and others of k-means clusters of embeddings, against their classes.

    Song et al., CVPR 2016 (lifted structure) brought this protocol to metric learning: k-means with as many clusters as
    classes. The score depends on the seed; the deviation over ``repeats`` measures how much. One iteration takes
    ``2 N K D`` operations (0.7 TFLOP for the test set of SOP at D = 512): a score for the end of training.

    Clusters come from :func:`mmdml.functional.kmeans.kmeans`: faiss, all samples in fp32 on the CPU, no empty clusters.

    Args:
        embeddings: ``(N, D)``, of any norm.
        labels: ``(N,)`` int64 values or strings.
        metrics: names from :data:`CLUSTERING_METRICS`: 'NMI' (arithmetic mean), 'NMI_geometric', 'AMI', 'F1', 'ARI',
            'homogeneity', 'completeness'.
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

    if isinstance(metrics, str):
        raise ValueError(f'metrics must be a sequence of names, got the single string {metrics!r}')
    unknown = [name for name in metrics if name not in CLUSTERING_METRICS]
    if unknown or not metrics:
        near = did_you_mean(unknown[0], CLUSTERING_METRICS) if unknown else ''
        raise ValueError(f'unknown metrics {unknown}; known are {list(CLUSTERING_METRICS)}{near}')
    if not is_whole(repeats) or repeats < 1:
        raise ValueError(f'repeats must be an integer and at least 1, got {repeats!r}')
    if not is_whole(seed):
        raise ValueError(f'seed must be an integer, got {seed!r}')
    embeddings = to_matrix('embeddings', embeddings, 'cpu')
    num_clusters = count_clusters(labels, len(embeddings), num_clusters)
    check_finite('the', embeddings)
    if normalize:
        embeddings = unit_rows(embeddings)

    rows = []
    for repeat in range(repeats):
        clusters, _ = kmeans(embeddings, num_clusters, seed + repeat, restarts, iterations)
        rows.append(agreement(labels, clusters, metrics))
    scores = dict(zip(metrics, np.mean(rows, axis=0).tolist(), strict=True))
    if repeats > 1:
        deviations = np.std(rows, axis=0, ddof=1).tolist()
        scores |= {f'{name}_std': deviation for name, deviation in zip(metrics, deviations, strict=True)}
    return scores


def count_clusters(labels: Keys, rows: int, num_clusters: int | None = None) -> int:
    """How many clusters to make: ``num_clusters``, by default as many as there are classes.

    Args:
        labels: ``(N,)`` int64 values or strings.
        rows: N, the number of embeddings.
        num_clusters: K. Default: the number of classes.

    Raises:
        ValueError: if there is not one label per embedding, or K is not in 1..N.
        TypeError: if labels are neither integers nor strings.
    """
    keys = to_keys('labels', labels, rows)
    if rows == 0:
        raise ValueError('there are no embeddings to cluster')
    number = len(np.unique(keys)) if num_clusters is None else num_clusters
    if not is_whole(number) or not 1 <= number <= rows:
        raise ValueError(f'num_clusters must be 1..{rows}, the number of embeddings, got {number!r}')
    return number
