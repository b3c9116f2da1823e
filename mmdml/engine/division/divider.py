"""From vectors to an assignment: one division (D&C)."""

import logging
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from mmdml.functional.kmeans import cluster_means
from mmdml.utils.numbers import check_counts

from .class_clusters import bisect, kmeans_with_classes
from .matching import match_clusters, overlap_share, released_match_clusters
from .singletons import Kept, drop_singletons, move_singletons

#: name -> how clusters of now are named after those of before.
MATCHINGS = {'overlap': match_clusters, 'released': released_match_clusters}


def _drop(clusters: Tensor, labels: Tensor, vectors: Tensor, num_clusters: int) -> Kept:
    return drop_singletons(clusters, labels)


def _move(clusters: Tensor, labels: Tensor, vectors: Tensor, num_clusters: int) -> Kept:
    return move_singletons(clusters, labels, vectors, cluster_means(vectors, clusters, num_clusters))


#: name -> what happens to images that are alone of their class in their cluster.
LONE_IMAGES = {'drop': _drop, 'move': _move}


class Division(NamedTuple):
    """Clusters, and what the sampler draws from.

    Attributes:
        clusters: ``(N,)`` int64, cluster of each image, 0..K-1.
        assignment: ``(N,)`` the same after lone images were dealt with, -1 for those left out.
        sizes: images of each of the K clusters.
        overlap: share in [0, 1] of the images that keep their learner, a child counting as its parent; None for the
            first division.
        lone: share in [0, 1] of images alone of their class in their cluster.
        dropped: share in [0, 1] of images left out.
    """

    clusters: Tensor
    assignment: Tensor
    sizes: list[int]
    overlap: float | None
    lone: float
    dropped: float

    def __str__(self) -> str:
        kept = '' if self.overlap is None else f', {self.overlap:.1%} of the images keep their learner'
        return (
            f'Division into {len(self.sizes)} clusters of {self.sizes} images{kept}; '
            f'{self.lone:.1%} lone images, {self.dropped:.1%} left out until the next division'
        )


@dataclass(frozen=True)
class Divider:
    """K-means -> matching with the clusters before -> bisection, if the clusters double -> lone images.

    Attributes:
        matching: 'overlap' (Hungarian), or 'released': the inverse permutation of both official releases.
        lone_images: 'drop' or 'move', see :mod:`mmdml.engine.division.singletons`.
        restarts: of k-means, at least 1.
        trials: seeds of k-means to try until every cluster has classes to learn from, at least 1.

    Raises:
        ValueError: for an unknown name, or ``restarts`` or ``trials`` that is no integer of at least 1.
    """

    matching: str = 'overlap'
    lone_images: str = 'drop'
    restarts: int = 1
    trials: int = 30

    def __post_init__(self) -> None:
        for name, value, known in (
            ('matching', self.matching, MATCHINGS),
            ('lone_images', self.lone_images, LONE_IMAGES),
        ):
            if value not in known:
                raise ValueError(f'{name} must be one of {list(known)}, got {value!r}')
        check_counts(restarts=self.restarts, trials=self.trials)

    def cluster(
        self,
        vectors: Tensor,
        labels: Tensor,
        num_clusters: int,
        seed: int,
        old: Tensor | None = None,
        num_old: int = 1,
        doubles: bool = False,
    ) -> Tensor:
        """``(N,)`` int64 clusters 0..K-1, named after the learners that go on with them.

        Args:
            vectors: ``(N, C)`` unit vectors.
            labels: ``(N,)`` class ids.
            num_clusters: K.
            seed: of k-means, in 0..2^30-1.
            old: ``(N,)`` clusters of the division before, -1 for images that had none; None for the first division.
            num_old: number of clusters before.
            doubles: cluster into ``num_old`` first and bisect these, so that children 2c, 2c + 1 come from cluster c.
        """
        flat = num_old if doubles else num_clusters
        clusters, _, works = kmeans_with_classes(vectors, labels, flat, seed, self.restarts, trials=self.trials)
        if not works:
            logging.getLogger('mmdml').warning(
                'no seed of k-means gave each of %d clusters two classes with two images: some batches will have no '
                'negatives, or no positives. Fewer clusters may help',
                flat,
            )
        if old is not None and flat > 1:
            clusters = MATCHINGS[self.matching](clusters, old, flat)
        if not doubles:
            return clusters
        return bisect(vectors, clusters, flat, seed, self.restarts, labels=labels, trials=self.trials)

    def settle(
        self,
        clusters: Tensor,
        labels: Tensor,
        vectors: Tensor,
        num_clusters: int,
        old: Tensor | None = None,
        num_old: int = 1,
    ) -> Division:
        """Deal with lone images, and sum up; the arguments are those of :meth:`cluster`."""
        kept = LONE_IMAGES[self.lone_images](clusters, labels, vectors, num_clusters)
        sizes = torch.bincount(clusters, minlength=num_clusters).tolist()
        overlap = None if old is None else overlap_share(clusters // max(num_clusters // num_old, 1), old)
        return Division(clusters, kept.assignment, sizes, overlap, kept.lone, kept.dropped)
