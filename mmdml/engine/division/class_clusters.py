"""K-means of the training images whose clusters all have classes to learn from (D&C, CVPR 2019; D&C+, TPAMI 2021)."""

import torch
from torch import Tensor

from mmdml.functional.kmeans import kmeans

from .singletons import class_table


def kmeans_with_classes(
    vectors: Tensor,
    labels: Tensor,
    num_clusters: int,
    seed: int = 1234,
    restarts: int = 1,
    iterations: int = 100,
    trials: int = 30,
) -> tuple[Tensor, Tensor, bool]:
    """:func:`kmeans` with seeds ``seed``, ``seed + 1``, ... until every cluster can give a batch with negatives.

    Args:
        vectors: ``(N, D)`` floats.
        labels: ``(N,)`` integers >= 0, class ids.
        num_clusters: K, at most N.
        seed: of the first trial.
        restarts: as in :func:`kmeans`.
        iterations: as in :func:`kmeans`.
        trials: how many seeds to try; the last result is kept even if it fails.

    Returns:
        ``(N,)`` int64 clusters, ``(K, D)`` centroids, and whether every cluster holds two classes with two images each
        (:func:`every_cluster_has_classes`).

    Raises:
        TypeError: if ``labels`` are not integers.
        ValueError: as :func:`kmeans`; if ``labels`` do not fit; if ``trials`` is below 1.
    """
    if trials < 1:
        raise ValueError(f'trials must be at least 1, got {trials}')
    for trial in range(trials):
        assignment, centroids = kmeans(vectors, num_clusters, seed + trial, restarts, iterations)
        works = every_cluster_has_classes(assignment, labels.to(assignment.device), num_clusters)
        if works:
            break
    return assignment, centroids, works


def bisect(
    vectors: Tensor,
    assignment: Tensor,
    num_clusters: int,
    seed: int = 1234,
    restarts: int = 1,
    iterations: int = 100,
    labels: Tensor | None = None,
    trials: int = 30,
) -> Tensor:
    """Divide every cluster c in two by 2-means on its own images: its children are 2c and 2c + 1.

    ``children // 2`` is the parents' assignment. A cluster with one image passes it on to 2c, an empty one has two
    empty children.

    Args:
        vectors: ``(N, D)`` floats.
        assignment: ``(N,)`` integers, parent cluster of each image, 0..K-1; images at -1 stay there.
        num_clusters: K, number of parents.
        seed: of every 2-means, as in :func:`kmeans`.
        restarts: as in :func:`kmeans`.
        iterations: as in :func:`kmeans`.
        labels: ``(N,)`` integers >= 0, class ids: each bisection is then retried as in :func:`kmeans_with_classes`.
        trials: seeds to try for each cluster; without ``labels`` there is nothing to try again for.

    Returns:
        ``(N,)`` int64 children, 0..2K-1, or -1.

    Raises:
        TypeError: if ``labels`` are not integers.
        ValueError: as :func:`kmeans`; if ``assignment`` does not fit or is outside -1..K-1.
    """
    if assignment.shape != vectors.shape[:1]:
        raise ValueError(
            f'assignment must have one entry for each of {len(vectors)} vectors, got {tuple(assignment.shape)}'
        )
    if len(assignment) and not -1 <= assignment.min() <= assignment.max() < num_clusters:
        raise ValueError(
            f'assignment must hold clusters 0..{num_clusters - 1}, or -1 for none, '
            f'got {assignment.min()}..{assignment.max()}'
        )
    children = torch.where(assignment < 0, assignment, 2 * assignment).long()
    for parent in range(num_clusters):
        images = (assignment == parent).nonzero().squeeze(1)
        if len(images) < 2:
            continue
        if labels is None:
            halves, _ = kmeans(vectors[images], 2, seed, restarts, iterations)
        else:
            halves, _, _ = kmeans_with_classes(vectors[images], labels[images], 2, seed, restarts, iterations, trials)
        children[images] += halves
    return children


def every_cluster_has_classes(assignment: Tensor, labels: Tensor, num_clusters: int) -> bool:
    """Whether every cluster holds two classes with two images each: the least that has positives and negatives.

    Args:
        assignment: ``(N,)`` integers, cluster of each image, 0..K-1 or -1.
        labels: ``(N,)`` integers >= 0, class ids.
        num_clusters: K.

    Raises:
        TypeError: if ``assignment`` or ``labels`` are not integers.
        ValueError: if shapes do not fit or a value is out of range.
    """
    table = class_table(assignment, labels, num_clusters)
    return bool(((table >= 2).sum(1) >= 2).all())
