"""Divide and conquer: who learns from which images, and when that changes."""

from typing import Any

import torch
from mmengine.dist import broadcast, get_world_size
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.optim import OptimWrapperDict
from mmengine.runner import EpochBasedTrainLoop
from torch import Tensor
from torch.nn import functional as F

from mmdml.engine.division import (
    Stages,
    bisect,
    cluster_means,
    drop_singletons,
    kmeans_with_classes,
    match_clusters,
    move_singletons,
    num_clusters_at,
    overlap_share,
    released_match_clusters,
)
from mmdml.engine.model_of import model_of
from mmdml.engine.progress import Progress
from mmdml.engine.sweep import Embeddings
from mmdml.registry import HOOKS

_MATCHINGS = {'overlap': match_clusters, 'released': released_match_clusters}
_VECTORS = ('features', 'embedding')
_LONE_IMAGES = ('drop', 'move')


@HOOKS.register_module()
class DivisionHook(Hook):
    """Cluster the training images, match the clusters to the learners, and hand both to sampler and head.

    Sweep -> k-means -> matching by maximum overlap -> assignment. The sampler draws single-cluster batches from it, and
    the head trains the learner of the batch's cluster. Clusters are made anew every ``interval`` epochs from the end of
    the warm-up until the fine-tuning; see :class:`~mmdml.engine.division.Stages`.

    Args:
        num_clusters: K, as in neck and head; a power of two with ``hierarchical``.
        divide_until: first epoch that trains the merged embedding (on clusters still).
        fine_tune_from: first epoch on batches of the whole training set; None for never.
        warm_up: epochs on the full embedding and the whole training set before the first division.
        interval: T, epochs between two clusterings, >= 1.
        hierarchical: 1, 2, 4, ... clusters, one doubling every ``interval`` epochs (TPAMI 2021), instead of K at once.
        cluster_on: 'features' (pooled, of the backbone) or 'embedding'; unit vectors in both cases.
        matching: 'overlap' (Hungarian), or 'released': the inverse permutation, as both official releases have it.
        lone_images: 'drop' an image that is alone of its class in its cluster until the next clustering, or 'move' it
            to the nearest cluster that has its class.
        seed: of k-means. Default: the run's.
        restarts: of k-means, >= 1.

    Raises:
        ValueError: for values out of range, an iteration-based loop, a sampler other than ``ClusterPKSampler``, another
            number of learners in neck or head, or a distributed run without ``find_unused_parameters=True``.

    Config::

        custom_hooks = [
            dict(type='DivisionHook', num_clusters=8, divide_until=80, fine_tune_from=190, interval=2)]
    """

    embedding_source = 'sweep'
    sweep_transform = 'test'
    needs_features = True

    def __init__(
        self,
        num_clusters: int,
        divide_until: int,
        fine_tune_from: int | None = None,
        warm_up: int = 0,
        interval: int = 2,
        hierarchical: bool = False,
        cluster_on: str = 'features',
        matching: str = 'overlap',
        lone_images: str = 'drop',
        seed: int | None = None,
        restarts: int = 1,
    ) -> None:
        choices = (('cluster_on', cluster_on, _VECTORS), ('matching', matching, _MATCHINGS))
        for name, value, known in (*choices, ('lone_images', lone_images, _LONE_IMAGES)):
            if value not in known:
                raise ValueError(f'{name} must be one of {list(known)}, got {value!r}')
        for name, value in (('num_clusters', num_clusters), ('interval', interval), ('restarts', restarts)):
            if value < 1:
                raise ValueError(f'{name} must be at least 1, got {value}')
        if hierarchical:
            num_clusters_at(0, num_clusters, interval)  # refuses what is no power of two
        self.num_clusters = num_clusters
        self.stages = Stages(warm_up, divide_until, fine_tune_from)
        self.interval = interval
        self.hierarchical = hierarchical
        self.cluster_on = cluster_on
        self.matching = matching
        self.lone_images = lone_images
        self.seed = seed
        self.restarts = restarts
        #: ``(N,)`` clusters of the last division, before lone images are left out; None before the first.
        self.clusters: Tensor | None = None
        #: ``(N,)`` what the sampler draws from, -1 for images left out.
        self.assignment: Tensor | None = None
        self._runner: Any = None

    def before_train(self, runner) -> None:
        """Check what would otherwise fail late, or silently train something else."""
        loader, model = runner.train_dataloader, model_of(runner)
        if not isinstance(runner.train_loop, EpochBasedTrainLoop) or runner.iter % len(loader):
            raise ValueError(
                'DivisionHook divides between epochs: use an epoch-based loop, and resume from whole epochs'
            )
        if not hasattr(loader.sampler, 'set_assignment'):
            raise ValueError(f'DivisionHook needs ClusterPKSampler, got {type(loader.sampler).__name__}')
        for name in ('neck', 'head'):
            learners = getattr(getattr(model, name), 'num_learners', None)
            if learners != self.num_clusters:
                raise ValueError(
                    f'DivisionHook has num_clusters={self.num_clusters}, but {name}.num_learners is {learners}'
                )
        if get_world_size() > 1 and not runner.cfg.get('find_unused_parameters', False):
            raise ValueError('learners idle in turn: a distributed run needs find_unused_parameters=True in the config')
        self._runner = runner

    def stage(self, progress: Progress) -> str:
        """'warm_up', 'divide', 'joint' or 'fine_tune'."""
        return self.stages.at(progress.epoch)

    def wants_embeddings(self, progress: Progress) -> bool:
        """At the start of every ``interval``-th epoch of the divide and the joint stage."""
        since = progress.epoch - self.stages.warm_up
        starts = progress.iter % progress.epoch_length == 0
        return starts and since % self.interval == 0 and self.stage(progress) in ('divide', 'joint')

    def receive_embeddings(self, embeddings: Embeddings, progress: Progress) -> None:
        """Divide."""
        vectors = embeddings.features if self.cluster_on == 'features' else embeddings.raw
        vectors = F.normalize(vectors, dim=1).cpu()
        labels = embeddings.labels.cpu()
        neck = model_of(self._runner).neck
        num_active = self.num_clusters
        if self.hierarchical:
            num_active = num_clusters_at(progress.epoch - self.stages.warm_up, self.num_clusters, self.interval)
        old = None if self.clusters is None else self.clusters[embeddings.indices.cpu()]
        clusters = self._divide(vectors, labels, old, num_active, progress)
        # The same on all ranks, whatever their k-means did.
        broadcast(clusters)
        self._report(clusters, old, num_active // neck.num_active)
        # Images without a row (unreadable ones) have no cluster.
        self.clusters = torch.full((len(self._runner.train_dataloader.dataset),), -1)
        self.clusters[embeddings.indices.cpu()] = clusters
        kept = self._settle_lone_images(clusters, labels, vectors, num_active)
        self.assignment = torch.full_like(self.clusters, -1)
        self.assignment[embeddings.indices.cpu()] = kept
        self._grow(neck, num_active)
        self._runner.train_dataloader.sampler.set_assignment(self.assignment, num_active)

    def _divide(
        self, vectors: Tensor, labels: Tensor, old: Tensor | None, num_active: int, progress: Progress
    ) -> Tensor:
        seed = (progress.seed if self.seed is None else self.seed) % 2**30
        previous = 1 if old is None else model_of(self._runner).neck.num_active
        doubles = self.hierarchical and num_active == 2 * previous
        flat = previous if doubles else num_active
        clusters, _, _ = kmeans_with_classes(vectors, labels, flat, seed, self.restarts)
        if old is not None and flat > 1:
            clusters = _MATCHINGS[self.matching](clusters, old, flat)
        if doubles:
            clusters = bisect(vectors, clusters, flat, seed, self.restarts, labels=labels)
        return clusters

    @staticmethod
    def _report(clusters: Tensor, old: Tensor | None, children: int) -> None:
        sizes = torch.bincount(clusters).tolist()
        # A child counts as its parent.
        kept = ''
        if old is not None:
            kept = f', {overlap_share(clusters // children, old):.1%} of the images keep their learner'
        print_log(f'Division into {len(sizes)} clusters of {sizes} images{kept}', logger='current')

    def _settle_lone_images(self, clusters: Tensor, labels: Tensor, vectors: Tensor, num_active: int) -> Tensor:
        if self.lone_images == 'drop':
            kept = drop_singletons(clusters, labels)
        else:
            kept = move_singletons(clusters, labels, vectors, cluster_means(vectors, clusters, num_active))
        print_log(f'{kept.lone:.1%} lone images, {kept.dropped:.1%} left out until the next division', logger='current')
        return kept.assignment

    def _grow(self, neck: Any, num_active: int) -> None:
        """More learners in use: children are copied from parents, and the optimiser forgets what it knew of these."""
        before = neck.num_active
        if num_active <= before:
            return
        head = model_of(self._runner).head
        neck.divide(num_active)
        head.divide(before, num_active)
        self._forget([*neck.learners.copied(), *head.learner_losses.parameters()])

    def _forget(self, parameters: list[Tensor]) -> None:
        """Start the optimiser's moments of some parameters anew."""
        wrapper = self._runner.optim_wrapper
        for each in wrapper.values() if isinstance(wrapper, OptimWrapperDict) else [wrapper]:
            for parameter in parameters:
                each.optimizer.state.pop(parameter, None)

    def before_train_epoch(self, runner) -> None:
        # Runs after the sweep of this epoch: SweepHook has a higher priority.
        if self.stage(Progress.of(runner)) == 'fine_tune' and self.assignment is not None:
            everything = torch.zeros_like(self.assignment)
            runner.train_dataloader.sampler.set_assignment(everything, 1)
        if self.assignment is not None:
            missed = runner.train_dataloader.sampler.unreached()
            print_log(f'{missed:.1%} of the images are not drawn in this epoch', logger='current')

    priority = 'BELOW_NORMAL'

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        head = model_of(runner).head
        head.learner = None
        if self.stage(Progress.of(runner)) != 'divide':
            return
        indices = [sample.sample_idx for sample in data_batch['data_samples']]
        learners = self.assignment[indices].unique().tolist()
        if len(learners) != 1 or learners[0] < 0:
            raise RuntimeError(f'a batch of the divide stage must come from one cluster, got images of {learners}')
        # A single learner is the whole embedding.
        head.learner = learners[0] if model_of(runner).neck.num_active > 1 else None

    def before_val(self, runner) -> None:
        self._join(runner)

    def after_train(self, runner) -> None:
        self._join(runner)

    @staticmethod
    def _join(runner) -> None:
        head = model_of(runner).head
        if head is not None:
            head.learner = None

    def run_state(self) -> dict[str, Tensor]:
        """The division."""
        parts = dict(clusters=self.clusters, assignment=self.assignment)
        return {name: value for name, value in parts.items() if value is not None}

    def load_run_state(self, state: dict[str, Tensor]) -> None:
        """Take it back; nothing is clustered because of a restart."""
        self.clusters = state['clusters'].cpu() if 'clusters' in state else None
        self.assignment = state['assignment'].cpu() if 'assignment' in state else None
