"""Images that are alone of their class in their cluster: they have no positive there."""

from typing import NamedTuple

import torch
from torch import Tensor

#: Rows gathered at once: 2 MB at 2048 dimensions.
_BLOCK = 256


class Kept(NamedTuple):
    """An assignment in which every class of a cluster has two images there.

    Attributes:
        assignment: ``(N,)`` int64, cluster of each image, -1 for none.
        lone: share in [0, 1] of all N images that were alone of their class in their cluster.
        dropped: share in [0, 1] of all N images that lost their cluster because of it.
    """

    assignment: Tensor
    lone: float
    dropped: float


def drop_singletons(assignment: Tensor, labels: Tensor) -> Kept:
    """Take lone images out of training until the next clustering: the rule of both official releases.

    Args:
        assignment: ``(N,)`` integers, cluster of each image, -1 for none.
        labels: ``(N,)`` integers >= 0, class ids.

    Returns:
        The assignment with -1 for every lone image, and the shares for the log.

    Raises:
        TypeError: if ``assignment`` or ``labels`` are not integers.
        ValueError: if shapes do not fit or a value is out of range.
    """
    _, lone = _table_and_lone(assignment, labels, _highest(assignment) + 1)
    share = _share(lone)
    return Kept(assignment.long().masked_fill(lone, -1), share, share)


def move_singletons(assignment: Tensor, labels: Tensor, vectors: Tensor, centroids: Tensor) -> Kept:
    """Send lone images to the nearest cluster where their class has company.

    - A class with two or more images in some clusters: each lone image of it goes to the one of these with the nearest
      centroid.
    - A class whose images are all alone, each in another cluster: all of them go to one of their clusters, the one with
      the smallest sum of squared distances between its centroid and these images.
    - A class with one image altogether: no cluster can help, it gets -1.

    Afterwards every class of a cluster has two images there or more, and only classes with one image lost any.

    Args:
        assignment: ``(N,)`` integers, cluster of each image, 0..K-1; images at -1 stay out and count nowhere.
        labels: ``(N,)`` integers >= 0, class ids.
        vectors: ``(N, D)`` what was clustered.
        centroids: ``(K, D)`` centroid of each cluster, in the order of the names in ``assignment``: see
            :func:`mmdml.engine.division.cluster_means` for clusters that were renamed.

    Returns:
        The new assignment, and the shares for the log.

    Raises:
        TypeError: if ``assignment`` or ``labels`` are not integers.
        ValueError: if shapes do not fit or a value is out of range.
    """
    if vectors.ndim != 2 or len(vectors) != len(assignment) or centroids.shape[1:] != vectors.shape[1:]:
        raise ValueError(
            f'vectors must be ({len(assignment)}, D), one per image, and centroids (K, D), '
            f'got {tuple(vectors.shape)} and {tuple(centroids.shape)}'
        )
    centroids = centroids.to(vectors)
    table, lone = _table_and_lone(assignment, labels, len(centroids))
    moving = lone.nonzero().squeeze(1)
    codes = labels[moving].long()
    company = (table >= 2).t()
    has_company = company.any(1)[codes, None]
    allowed = torch.where(has_company, company[codes], (table > 0).t()[codes])
    target = allowed.long().argmax(1)

    # Reading the vectors is what costs: only where there is a choice.
    choice = (allowed.sum(1) > 1).nonzero().squeeze(1)
    score = _scores(vectors, moving[choice], centroids)
    codes_of_choice = codes[choice]
    class_score = score.new_zeros(table.shape[::-1]).index_add_(0, codes_of_choice, score)
    score = torch.where(has_company[choice], score, class_score[codes_of_choice])
    target[choice] = score.masked_fill(~allowed[choice], float('inf')).argmin(1)
    alone_everywhere = table.sum(0)[codes] == 1

    moved = assignment.long().clone()
    moved[moving] = target.masked_fill(alone_everywhere, -1)
    return Kept(moved, _share(lone), int(alone_everywhere.sum()) / max(len(labels), 1))


def class_table(assignment: Tensor, labels: Tensor, num_clusters: int) -> Tensor:
    """Images of each class in each cluster, from one bincount.

    Args:
        assignment: ``(N,)`` integers, cluster of each image, 0..K-1; images at -1 are not counted.
        labels: ``(N,)`` integers >= 0, class ids; C is the highest plus one.
        num_clusters: K.

    Returns:
        ``(K, C)`` int64 counts.

    Raises:
        TypeError: if ``assignment`` or ``labels`` are not integers.
        ValueError: if shapes do not fit or a value is out of range.
    """
    _check(assignment, labels, num_clusters)
    num_classes = _highest(labels) + 1
    # The images without a cluster form a first row, which is cut off.
    keys = (assignment.long() + 1) * num_classes + labels
    counts = torch.bincount(keys, minlength=(num_clusters + 1) * num_classes)
    return counts.view(num_clusters + 1, num_classes)[1:]


def _table_and_lone(assignment: Tensor, labels: Tensor, num_clusters: int) -> tuple[Tensor, Tensor]:
    """``(K, C)`` counts and ``(N,)`` bool: alone of its class in its cluster."""
    table = class_table(assignment, labels, num_clusters)
    if not table.numel():
        return table, torch.zeros_like(assignment, dtype=torch.bool)
    clusters = assignment.long()
    return table, (clusters >= 0) & (table[clusters.clamp(min=0), labels.long()] == 1)


def _scores(vectors: Tensor, images: Tensor, centroids: Tensor) -> Tensor:
    """``(M, K)`` squared distances of images to centroids, up to a term that does not depend on the cluster."""
    # In blocks that stay in the cache, three times as fast as one copy of all rows.
    products = [vectors[block] @ centroids.t() for block in images.split(_BLOCK)]
    return centroids.square().sum(1) - 2 * torch.cat(products)


def _check(assignment: Tensor, labels: Tensor, num_clusters: int) -> None:
    for name, values in (('assignment', assignment), ('labels', labels)):
        if values.is_floating_point() or values.dtype == torch.bool:
            raise TypeError(f'{name} must be integers, got {values.dtype}')
    if assignment.ndim != 1 or assignment.shape != labels.shape:
        raise ValueError(
            'assignment and labels must both have shape (N,), one entry per image, '
            f'got {tuple(assignment.shape)} and {tuple(labels.shape)}'
        )
    if not len(assignment):
        return
    if not -1 <= assignment.min() <= assignment.max() < num_clusters:
        raise ValueError(
            f'assignment must hold clusters 0..{num_clusters - 1}, or -1 for none, '
            f'got {assignment.min()}..{assignment.max()}'
        )
    if labels.min() < 0:
        raise ValueError(f'labels must not be negative, got {labels.min()}')


def _highest(values: Tensor) -> int:
    return int(values.max()) if len(values) else -1


def _share(mask: Tensor) -> float:
    return int(mask.sum()) / max(len(mask), 1)
