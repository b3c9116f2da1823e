"""K-means with faiss (D&C, CVPR 2019, Sec. 3.2)."""

import logging
import math

import faiss
import numpy as np
import torch
from torch import Tensor

from mmdml.utils.numbers import is_whole

#: Rows whose differences to centroids are held at once: 32 MB at 2048 dimensions.
_ROWS = 4096
#: Largest exponents of two of the values that are clustered as they are: their squares are far inside fp32.
_EXPONENTS = 40


def kmeans(
    vectors: Tensor, num_clusters: int, seed: int = 1234, restarts: int = 1, iterations: int = 100
) -> tuple[Tensor, Tensor]:
    """Divide vectors into K clusters: Lloyd's algorithm on all of them, in fp32 on the CPU.

    The same vectors and settings give the same clusters. Vectors whose squares leave the range of fp32 are clustered
    after division by a power of two, which changes no cluster. Clusters that come out empty are filled: the vector
    farthest from its centroid becomes the centroid of the empty cluster and takes along what is nearer to it. So every
    cluster holds a vector if there are K distinct ones; if not, the rest stays empty and a warning says so.

    Args:
        vectors: ``(N, D)`` floats.
        num_clusters: K, at most N.
        seed: in 0..2^31-1; chooses the initial centroids. faiss picks them by position, so one seed makes clusters of
            slowly changing vectors keep their numbers more often than not.
        restarts: runs of the algorithm, the one with the lowest error is taken.
        iterations: of each run.

    Returns:
        ``(N,)`` int64 cluster of each vector, 0..K-1, and ``(K, D)`` fp32 centroids, on the device of ``vectors``.
        Every vector belongs to its nearest centroid.

    Raises:
        ValueError: if ``vectors`` is no matrix of finite fp32 values, K is below 1 or above N, or a setting is out of
            range.
    """
    _check(vectors, num_clusters, seed, restarts, iterations)
    matrix = vectors.detach().to('cpu')
    scale = _safe_scale(matrix)
    matrix = (matrix if scale == 1 else matrix / scale).to(torch.float32).contiguous()
    rows = matrix.numpy()
    settings = faiss.ClusteringParameters()
    settings.niter = iterations
    settings.nredo = restarts
    settings.seed = seed
    # By default faiss silently clusters a sample of 256 vectors per cluster, and warns if there are fewer than 39.
    settings.max_points_per_centroid = len(rows)
    settings.min_points_per_centroid = 1
    clustering = faiss.Clustering(rows.shape[1], num_clusters, settings)
    clustering.train(rows, faiss.IndexFlatL2(rows.shape[1]))
    centroids = faiss.vector_to_array(clustering.centroids).reshape(num_clusters, -1)

    index = faiss.IndexFlatL2(rows.shape[1])
    index.add(centroids)
    assignment = torch.from_numpy(index.search(rows, 1)[1].squeeze(1).astype(np.int64))
    centroids = torch.from_numpy(centroids)
    _fill_empty_clusters(matrix, assignment, centroids)
    centroids *= scale
    return assignment.to(vectors.device), centroids.to(vectors.device)


def cluster_means(vectors: Tensor, assignment: Tensor, num_clusters: int) -> Tensor:
    """Mean of the vectors of each cluster: the centroids of clusters that were renamed, bisected or changed otherwise.

    Args:
        vectors: ``(N, D)`` floats.
        assignment: ``(N,)`` integers, cluster of each image, 0..K-1; images at -1 count nowhere.
        num_clusters: K.

    Returns:
        ``(K, D)`` means, zero for empty clusters; summed in fp32 or better.
    """
    dtype = torch.promote_types(vectors.dtype, torch.float32)
    # One row more takes the images without a cluster, which saves a copy of the others.
    sums = torch.zeros(num_clusters + 1, vectors.shape[1], dtype=dtype, device=vectors.device)
    slots = assignment.long() + 1
    sums.index_add_(0, slots, vectors.to(dtype))
    sizes = torch.bincount(slots, minlength=num_clusters + 1)
    return sums[1:] / sizes[1:, None].clamp(min=1)


def _fill_empty_clusters(rows: Tensor, assignment: Tensor, centroids: Tensor) -> None:
    """Give every empty cluster the farthest vector, in place.

    A cluster whose centroid is one of the vectors keeps that vector: nothing is nearer to it than distance 0, measured
    from differences. So each cluster is filled at most once, although filling one may empty another.
    """
    sizes = torch.bincount(assignment, minlength=len(centroids))
    if sizes.all():
        return
    distances = _distances(rows, centroids, assignment)
    while not sizes.all() and distances.max() > 0:
        empty = int(sizes.argmin())
        farthest = int(distances.argmax())
        centroids[empty] = rows[farthest]
        to_empty = _distances(rows, centroids, torch.full_like(assignment, empty))
        nearer = to_empty < distances
        assignment[nearer] = empty
        distances = torch.minimum(distances, to_empty)
        sizes = torch.bincount(assignment, minlength=len(centroids))
    if not sizes.all():
        logging.getLogger('mmdml').warning(
            '%d of %d clusters are empty: the %d vectors have only %d distinct values (a collapsed embedding?)',
            int((sizes == 0).sum()),
            len(centroids),
            len(rows),
            int((sizes > 0).sum()),
        )


def _distances(rows: Tensor, centroids: Tensor, assignment: Tensor) -> Tensor:
    """``(N,)`` squared distance of each row to the centroid of its cluster, exactly 0 where they are equal."""
    blocks = zip(rows.split(_ROWS), assignment.split(_ROWS), strict=True)
    return torch.cat([(block - centroids[clusters]).square_().sum(1) for block, clusters in blocks])


def _check(vectors: Tensor, num_clusters: int, seed: int, restarts: int, iterations: int) -> None:
    if vectors.ndim != 2 or not vectors.is_floating_point():
        raise ValueError(f'vectors must be a float matrix (N, D), got {vectors.dtype} of shape {tuple(vectors.shape)}')
    if not is_whole(num_clusters) or not 1 <= num_clusters <= len(vectors):
        raise ValueError(f'num_clusters must be 1..{len(vectors)}, the number of vectors, got {num_clusters!r}')
    if not is_whole(seed) or not 0 <= seed < 2**31:
        raise ValueError(f'seed must be an integer and in 0..2^31-1, got {seed!r}')
    for name, value in (('restarts', restarts), ('iterations', iterations)):
        if not is_whole(value) or value < 1:
            raise ValueError(f'{name} must be an integer and at least 1, got {value!r}')


def _safe_scale(matrix: Tensor) -> float:
    """Power of two by which the rows are divided: 1 unless their squares would overflow or vanish in fp32.

    Raises:
        ValueError: if a value is not finite in fp32.
    """
    # Extremes of the rows show NaN and infinity without a second matrix of the size of the first.
    low, high = torch.aminmax(matrix, dim=1)
    largest = torch.maximum(-low, high)
    bad = (~(largest <= torch.finfo(torch.float32).max)).nonzero().squeeze(1)
    if len(bad):
        raise ValueError(
            f'vectors are not finite (NaN, inf, or beyond fp32) in {len(bad)} of {len(matrix)} rows, first in {bad[0]}'
        )
    top = float(largest.max())
    exponent = math.frexp(top)[1] - 1 if top > 0 else 0
    return 2.0**exponent if abs(exponent) > _EXPONENTS else 1.0
