"""Batches of P classes with K images each, all from one cluster."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmdml.registry import DATA_SAMPLERS
from mmdml.utils.seeding import Stream, numpy_generator

from .orders import ClassTable, independent_order, small_cluster_order
from .pk_sampler import PKSampler


def _draw_clusters(weights: np.ndarray, seed: int, epoch: int, num_steps: int) -> np.ndarray:
    """``(T,)`` positions in ``weights``, each drawn with its weight."""
    numbers = numpy_generator(Stream.CLUSTER_CHOICE, seed, epoch).random(num_steps)
    return np.searchsorted(np.cumsum(weights) / np.sum(weights), numbers, side='right')


def _uniform(sizes: np.ndarray, seed: int, epoch: int, num_steps: int) -> np.ndarray:
    return _draw_clusters(np.ones(len(sizes)), seed, epoch, num_steps)


def _round_robin(sizes: np.ndarray, seed: int, epoch: int, num_steps: int) -> np.ndarray:
    # An epoch continues where the last one ended, or the first clusters would get more steps.
    return (epoch * num_steps + np.arange(num_steps)) % len(sizes)


#: Each takes the images of every non-empty cluster, seed, epoch and T; it returns ``(T,)`` positions in ``sizes``.
CLUSTER_ORDERS: dict[str, Callable[[np.ndarray, int, int, int], np.ndarray]] = {
    'uniform': _uniform,
    'proportional': _draw_clusters,
    'round_robin': _round_robin,
}


@DATA_SAMPLERS.register_module()
class ClusterPKSampler(PKSampler):
    """Yield dataset indices so that every global batch of ``W * batch_size`` images comes from a single cluster.

    Divide and Conquer the Embedding Space for Metric Learning (CVPR 2019), Sec. 3.3, Alg. 1: step t draws a cluster,
    then P classes x K images inside it. ``set_assignment`` says which image is in which cluster; until then one cluster
    holds everything. With one cluster that holds every image the order is bit for bit that of
    ``PKSampler(preset='independent')``, the preset of the same length and without a rule about coverage, so that a
    baseline without division is the same run. ``unreached`` is the share that an epoch leaves out.

    One loader serves all clusters. An epoch has ``floor(N / (W batch_size))`` batches, at most ``num_batches``,
    whatever the clusters are; ``cluster_order`` decides how they are shared out. Ranks, epochs, ``skip`` and ``Draw``
    are as in ``PKSampler``.

    A batch takes ``min(K, n_c)`` images from random classes of its cluster, all distinct, until it is full; only its
    last class may be ragged. A cluster that cannot fill a batch that way (fewer than P classes, or many with fewer than
    K images) takes more images per class, as evenly as the classes allow, and repeats images only if it has fewer than
    the batch: then each image is in it ``floor(B / n)`` or ``ceil(B / n)`` times. A cluster of one class yields batches
    without negatives.

    Cluster orders, over the clusters that hold images:

    - ``'uniform'``: every cluster equally likely in every step (the paper).
    - ``'proportional'``: as likely as its share of the images.
    - ``'round_robin'``: 0, 1, ..., K-1 in turn, across epochs (the released code, without its longer epochs).

    Args:
        dataset: offers ``labels`` ``(N,)``, or MMEngine's ``get_data_info(i)['gt_label']``.
        batch_size: images per batch and rank.
        images_per_class: K, at least 1.
        cluster_order: ``'uniform'``, ``'proportional'`` or ``'round_robin'``.
        num_batches: upper limit of the batches of an epoch. Default: none.
        seed: of the order. Default: a random one, the same on all ranks.
        rank: default: of this process.
        world_size: W. Default: of the running job.

    Raises:
        ValueError: if there are no labels; ``images_per_class`` is below 1 or larger than every class; the images
            cannot fill a batch; or ``cluster_order`` is unknown.

    Config::

        train_dataloader = dict(
            batch_size=80, sampler=dict(type='ClusterPKSampler', batch_size=80, images_per_class=4))
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int,
        images_per_class: int,
        cluster_order: str = 'uniform',
        num_batches: int | None = None,
        seed: int | None = None,
        rank: int | None = None,
        world_size: int | None = None,
    ) -> None:
        if cluster_order not in CLUSTER_ORDERS:
            raise ValueError(f'cluster_order must be one of {sorted(CLUSTER_ORDERS)}, got {cluster_order!r}')
        super().__init__(dataset, batch_size, images_per_class, 'independent', num_batches, seed, rank, world_size)
        self.cluster_order = cluster_order
        self.set_assignment(np.zeros(len(self.table.codes), dtype=np.int64), num_clusters=1)

    def set_assignment(self, assignment: np.ndarray | Tensor, num_clusters: int) -> None:
        """Set which cluster each image belongs to, from the next iteration over the sampler on.

        An epoch that is already running keeps its order, so a resumed run is the same only if this is called between
        epochs. Every rank must be given the same assignment.

        Args:
            assignment: ``(N,)`` int64, 0..num_clusters-1, or -1 for an image that is left out. Clusters may be empty.
            num_clusters: K of the division.

        Raises:
            ValueError: if it is not one integer per image, out of range, or leaves out every image.
        """
        assignment = torch.as_tensor(assignment).cpu().numpy()
        num_images = len(self.table.codes)
        if assignment.shape != (num_images,) or not np.issubdtype(assignment.dtype, np.integer):
            raise ValueError(
                f'assignment must hold one integer for each of the {num_images} images, '
                f'got shape {assignment.shape} of {assignment.dtype}'
            )
        if num_clusters < 1:
            raise ValueError(f'num_clusters must be at least 1, got {num_clusters}')
        if assignment.min() < -1 or assignment.max() >= num_clusters:
            raise ValueError(
                f'assignment must be in -1..{num_clusters - 1} (num_clusters - 1), '
                f'got {assignment.min()}..{assignment.max()}'
            )
        if assignment.max() < 0:
            raise ValueError('assignment leaves out every image (all are -1); at least one must be in a cluster')
        self.assignment = assignment.astype(np.int64)  # a copy: the caller may change its array
        self.num_clusters = int(num_clusters)
        self._clusters = [_Cluster.of(k, self.assignment, self.table) for k in np.unique(assignment[assignment >= 0])]

    def cluster_of_step(self, epoch: int, step: int) -> int:
        """Return the cluster of a batch, 0..num_clusters-1: given the assignment, a function of (seed, epoch, step).

        Raises:
            ValueError: if ``step`` is not one of the epoch's batches.
        """
        if not 0 <= step < self.num_batches:
            raise ValueError(f'step must be in 0..{self.num_batches - 1} (batches of an epoch - 1), got {step}')
        return self._clusters[self._choose(epoch)[step]].number

    def global_order(self, epoch: int) -> np.ndarray:
        """Return ``(num_batches * W * batch_size,)`` indices of an epoch, global batch after global batch."""
        chosen = self._choose(epoch)
        rng = numpy_generator(Stream.BATCHES, self.seed, epoch)  # as PKSampler: the same order with one cluster
        order = np.empty((self.num_batches, self._global_batch_size), dtype=np.int64)
        for place, cluster in enumerate(self._clusters):
            steps = np.flatnonzero(chosen == place)
            if len(steps):
                order[steps] = cluster.batches(len(steps), self._global_batch_size, self.images_per_class, rng)
        return order.ravel()

    def unreached(self) -> float:
        """Return the share of all N images, left-out ones included, that the current epoch does not draw, in [0, 1)."""
        drawn = np.zeros(len(self.table.codes), dtype=bool)
        drawn[self.global_order(self._epoch)] = True
        return 1.0 - float(drawn.mean())

    def run_state(self) -> dict[str, Any]:
        """Return what a resumed run needs to yield the same order: seed and clusters."""
        return {
            **super().run_state(),
            'assignment': torch.from_numpy(self.assignment.copy()),
            'num_clusters': self.num_clusters,
        }

    def load_run_state(self, state: dict[str, Any]) -> None:
        """Restore what ``run_state`` returned."""
        super().load_run_state(state)
        self.set_assignment(state['assignment'], state['num_clusters'])

    def _choose(self, epoch: int) -> np.ndarray:
        """``(num_batches,)`` places in the list of non-empty clusters."""
        sizes = np.array([len(cluster.images) for cluster in self._clusters])
        return CLUSTER_ORDERS[self.cluster_order](sizes, self.seed, epoch, self.num_batches)


@dataclass(frozen=True)
class _Cluster:
    """The images of a cluster, ``(n,)`` dataset indices, and their classes."""

    number: int
    images: np.ndarray
    table: ClassTable

    @classmethod
    def of(cls, number: int, assignment: np.ndarray, table: ClassTable) -> '_Cluster':
        images = np.flatnonzero(assignment == number)
        return cls(int(number), images, ClassTable.from_labels(table.codes[images]))

    def batches(self, num_batches: int, batch_size: int, images_per_class: int, rng: np.random.Generator) -> np.ndarray:
        """``(num_batches, batch_size)`` dataset indices."""
        if np.minimum(self.table.sizes, images_per_class).sum() >= batch_size:
            order = independent_order(self.table, num_batches, batch_size, images_per_class, rng)
        else:
            order = small_cluster_order(self.table, num_batches, batch_size, rng)
        return self.images[order]
