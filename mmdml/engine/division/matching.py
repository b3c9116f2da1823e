"""Matching of new clusters to the learners of the old ones (D&C, CVPR 2019, Sec. 3.2)."""

from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment
from torch import Tensor


def match_clusters(new: Tensor | np.ndarray, old: Tensor | np.ndarray, num_clusters: int) -> Tensor | np.ndarray:
    """Rename new clusters so that as many images as possible keep the learner they had.

    ``pi* = argmin_pi sum_i |A_i symmetric-difference P_pi(i)|`` with the new clusters ``A_i`` and the old ones ``P_j``,
    solved by the Hungarian method; the image of new cluster i gets label ``pi*(i)``. The sizes do not depend on pi, so
    this maximizes the overlap ``sum_i |A_i intersect P_pi(i)|``, and the K x K table of overlaps is all that is needed.
    If the new clusters are the old ones under other names, the old labels come back exactly.

    Args:
        new: ``(N,)`` integers, cluster of each image now, 0..K-1; -1 (no cluster) stays -1.
        old: ``(N,)`` integers, cluster of each image before, 0..K-1; images at -1 count nowhere.
        num_clusters: K.

    Returns:
        ``(N,)`` renamed ``new``: a tensor where ``new`` is one, else an array; type and device of ``new``.

    Raises:
        TypeError: if labels are not integers.
        ValueError: if shapes differ, a label is outside -1..K-1, or K is not positive.
    """
    new_cluster, old_cluster = _best_pairs(new, old, num_clusters)
    return _rename(new, new_cluster, old_cluster)


def released_match_clusters(
    new: Tensor | np.ndarray, old: Tensor | np.ndarray, num_clusters: int
) -> Tensor | np.ndarray:
    """Return the renaming of both official releases, which apply the inverse of ``pi*``.

    For the record and for reproducing released numbers only: the image of new cluster ``pi*(i)`` gets label i. It is
    right only where ``pi*`` is its own inverse: for K = 2 always, for K = 8 about once in fifty.

    Args:
        new: as in :func:`match_clusters`.
        old: as in :func:`match_clusters`.
        num_clusters: K.

    Returns:
        ``(N,)`` renamed ``new``, of its kind, type and device.

    Raises:
        TypeError: if labels are not integers.
        ValueError: if shapes differ, a label is outside -1..K-1, or K is not positive.
    """
    new_cluster, old_cluster = _best_pairs(new, old, num_clusters)
    return _rename(new, old_cluster, new_cluster)


def overlap_share(new: Tensor | np.ndarray, old: Tensor | np.ndarray) -> float:
    """Share in [0, 1] of the images with a cluster in both assignments that have the same one; nan if there is none.

    Args:
        new: ``(N,)`` integers, -1 for no cluster.
        old: ``(N,)`` integers, -1 for no cluster.

    Raises:
        TypeError: if labels are not integers.
        ValueError: if shapes differ.
    """
    new, old = _integers('new', new), _integers('old', old)
    _check_same_length(new, old)
    both = (new >= 0) & (old >= 0)
    return float((new[both] == old[both]).mean()) if both.any() else float('nan')


def _best_pairs(new: Any, old: Any, num_clusters: int) -> tuple[np.ndarray, np.ndarray]:
    """Return each new cluster and its old partner, K entries each, at maximum overlap."""
    if num_clusters < 1:
        raise ValueError(f'num_clusters must be at least 1, got {num_clusters}')
    new, old = _integers('new', new), _integers('old', old)
    _check_same_length(new, old)
    for name, clusters in (('new', new), ('old', old)):
        if len(clusters) and not -1 <= clusters.min() <= clusters.max() < num_clusters:
            raise ValueError(
                f'{name} must hold clusters 0..{num_clusters - 1}, or -1 for none, '
                f'got {clusters.min()}..{clusters.max()}'
            )
    # One row and one column more take the images without a cluster, and are cut off.
    keys = (new + 1) * (num_clusters + 1) + old + 1
    table = np.bincount(keys, minlength=(num_clusters + 1) ** 2).reshape(num_clusters + 1, num_clusters + 1)
    return linear_sum_assignment(table[1:, 1:], maximize=True)


def _rename(clusters: Any, source: np.ndarray, target: np.ndarray) -> Tensor | np.ndarray:
    """``source[i]`` becomes ``target[i]``, -1 stays -1; kind, type and device of ``clusters``."""
    names = np.empty(len(source) + 1, dtype=np.int64)
    names[source] = target
    names[-1] = -1  # where label -1 looks itself up
    renamed = names[_integers('new', clusters)]
    if isinstance(clusters, Tensor):
        return clusters.new_tensor(renamed)
    return renamed.astype(np.asarray(clusters).dtype)


def _integers(name: str, clusters: Any) -> np.ndarray:
    array = np.asarray(clusters.detach().cpu() if isinstance(clusters, Tensor) else clusters)
    if array.dtype.kind not in 'iu':
        raise TypeError(f'{name} must be integers, one cluster per image, got {array.dtype}')
    if array.ndim != 1:
        raise ValueError(f'{name} must have shape (N,), one cluster per image, got {array.shape}')
    return array.astype(np.int64)


def _check_same_length(new: np.ndarray, old: np.ndarray) -> None:
    if len(new) != len(old):
        raise ValueError(f'new and old must be about the same images, got {len(new)} and {len(old)}')
