"""Divide and conquer: clusters of the training images, and their learners, over the stages of a run."""

from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.logging import print_log
from torch import Tensor
from torch.nn import functional as F

from mmdml.dist import on_main_process
from mmdml.engine.division import Divider, Division, Stage, Stages, num_clusters_at
from mmdml.engine.division.learners import grow_learners, join_learners
from mmdml.engine.division.requirements import check_divided_run, check_stages
from mmdml.engine.model_of import model_of, progress_of
from mmdml.registry import HOOKS
from mmdml.structures import Embeddings, Progress, indices_of
from mmdml.utils.numbers import check_counts, is_whole
from mmdml.utils.seeding import Stream, derive_seed, torch_generator

_VECTORS = ('features', 'embedding', 'random')


@HOOKS.register_module()
class DivisionHook(Hook):
    """Cluster the training images, match the clusters to the learners, and set both in sampler and steps.

    Sweep -> k-means -> matching by maximum overlap -> assignment. The sampler draws single-cluster batches from it, and
    each step trains the learner of its batch's cluster, through ``StepContextHook``. There are as many clusters as the
    neck has learners. Clusters are made anew every ``interval`` epochs from the end of the warm-up until the
    fine-tuning; see :class:`~mmdml.engine.division.Stages` for the stages and
    :class:`~mmdml.engine.division.Divider` for the clusters.

    Args:
        divide_until: first epoch that trains the merged embedding (on clusters still).
        fine_tune_from: first epoch on batches of the whole training set; None for never.
        warm_up: epochs on the full embedding and the whole training set before the first division.
        interval: T, epochs between two clusterings, >= 1.
        hierarchical: 1, 2, 4, ... clusters, one doubling every ``interval`` epochs (TPAMI 2021), instead of K at once;
            the neck's ``num_learners`` is a power of two then.
        cluster_on: 'features' (pooled, of the backbone) or 'embedding' (merged), as unit vectors; 'random' is the
            control: vectors that have nothing to do with the images, the same at every division.
        matching: 'overlap' (Hungarian), or 'released': the inverse permutation, as both official releases have it.
        lone_images: 'drop' an image that is alone of its class in its cluster until the next clustering, or 'move' it
            to the nearest cluster that has its class.
        seed: of k-means, in 0..2^30-1. Default: derived from the run's.
        restarts: of k-means, >= 1.
        trials: seeds of k-means to try until every cluster holds two classes with two images each, >= 1; the other
            ranks wait meanwhile.
        freeze_backbone: F, epochs after each clustering in which only what follows the backbone trains, < T (TPAMI
            2021; 1 of every 2 in the release, 0 here). The backbone's backward pass is skipped.
        fine_tune_backbone: False: the fine-tune stage trains only what follows the backbone (CVPR 2019, Sec. 3.3; the
            release trains everything).

    Raises:
        ValueError: for values out of range, or fractions (all spans are whole epochs); before training, see
            :mod:`mmdml.engine.division.requirements`.
        RuntimeError: if a batch comes from another cluster than that of the sampler.

    Config::

        custom_hooks = [dict(type='DivisionHook', divide_until=80, fine_tune_from=190, interval=2)]
    """

    priority = 'BELOW_NORMAL'
    embedding_source = 'sweep'
    sweep_transform = 'test'

    def __init__(
        self,
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
        trials: int = 30,
        freeze_backbone: int = 0,
        fine_tune_backbone: bool = True,
    ) -> None:
        if cluster_on not in _VECTORS:
            raise ValueError(f'cluster_on must be one of {list(_VECTORS)}, got {cluster_on!r}')
        check_counts(interval=interval)
        if seed is not None and not (is_whole(seed) and 0 <= seed < 2**30):
            raise ValueError(f'seed must be an integer in 0..2^30-1, got {seed!r}')
        if not (is_whole(freeze_backbone) and 0 <= freeze_backbone < interval):
            raise ValueError(
                f'freeze_backbone must be in 0..{interval - 1}, fewer epochs than interval={interval}, '
                f'got {freeze_backbone!r}'
            )
        self.stages = Stages(warm_up, divide_until, fine_tune_from)
        self.interval = interval
        self.hierarchical = hierarchical
        self.cluster_on = cluster_on
        self.needs_features = cluster_on == 'features'
        self.divider = Divider(matching, lone_images, restarts, trials)
        self.seed = seed
        self.freeze_backbone = freeze_backbone
        self.fine_tune_backbone = fine_tune_backbone
        #: ``(N,)`` clusters of the last division, before lone images are left out; None before the first.
        self.clusters: Tensor | None = None
        #: ``(N,)`` what the sampler draws from, -1 for images left out.
        self.assignment: Tensor | None = None
        self._runner: Any = None

    @property
    def num_clusters(self) -> int:
        """K, the neck's number of learners; known in training."""
        return model_of(self._runner).neck.num_learners

    def before_train(self, runner) -> None:
        check_divided_run(runner, self.hierarchical, self.clusters is not None)
        self._runner = runner
        check_stages(self.stages, self.interval, self.hierarchical, self.num_clusters, runner.max_epochs)

    def first_step(self, progress: Progress) -> int:
        """Return the iteration of the first division."""
        return self.stages.first_division(self.interval, self.hierarchical) * progress.epoch_length

    def stage(self, progress: Progress) -> Stage:
        """'warm_up', 'divide', 'joint' or 'fine_tune'."""
        return self.stages.at(progress.epoch)

    def embeddings_due(self, progress: Progress) -> bool:
        """At the start of every ``interval``-th epoch of the divide and the joint stage, if there is a choice."""
        since = progress.epoch - self.stages.warm_up
        starts = progress.iter % progress.epoch_length == 0
        due = starts and since % self.interval == 0 and self.stage(progress) in ('divide', 'joint')
        return due and self._target(progress) > 1

    def _target(self, progress: Progress) -> int:
        """Clusters that a division now makes."""
        if not self.hierarchical:
            return self.num_clusters
        return num_clusters_at(progress.epoch - self.stages.warm_up, self.num_clusters, self.interval)

    def receive_embeddings(self, embeddings: Embeddings, progress: Progress) -> None:
        """Divide the training set, on rank 0 for all."""
        target = self._target(progress)
        division = on_main_process(lambda: self._divide(embeddings, progress, target))
        print_log(str(division), logger='current')
        # Images without a row (unreadable ones) have no cluster.
        everywhere = torch.full((len(self._runner.train_dataloader.dataset),), -1)
        indices = embeddings.indices.cpu()
        self.clusters = everywhere.index_copy(0, indices, division.clusters)
        self.assignment = everywhere.index_copy(0, indices, division.assignment)
        grow_learners(self._runner, target)
        self._runner.train_dataloader.sampler.set_assignment(self.assignment, target)

    def _divide(self, embeddings: Embeddings, progress: Progress, target: int) -> Division:
        neck = model_of(self._runner).neck
        vectors, labels = self._vectors(embeddings, progress).cpu(), embeddings.labels.cpu()
        old = None if self.clusters is None else self.clusters[embeddings.indices.cpu()]
        num_old = 1 if old is None else neck.num_active
        seed = derive_seed(Stream.KMEANS, progress.seed) % 2**30 if self.seed is None else self.seed
        doubles = self.hierarchical and target == 2 * num_old
        clusters = self.divider.cluster(vectors, labels, target, seed, old, num_old, doubles)
        return self.divider.settle(clusters, labels, vectors, target, old, num_old)

    def _vectors(self, embeddings: Embeddings, progress: Progress) -> Tensor:
        """``(N, C)`` unit vectors to cluster."""
        if self.cluster_on == 'random':
            generator = torch_generator(Stream.RANDOM_CLUSTERS, progress.seed)
            rows = torch.randn(len(self._runner.train_dataloader.dataset), 16, generator=generator)
            return F.normalize(rows[embeddings.indices.cpu()], dim=1)
        if self.needs_features:
            return F.normalize(embeddings.features, dim=1)
        return model_of(self._runner).neck.unit(embeddings.raw)

    def before_train_epoch(self, runner) -> None:
        # Runs after the sweep of this epoch: SweepHook has a higher priority.
        if runner.epoch == self.stages.divide_until:
            join_learners(runner)
        if self.assignment is None:
            return
        sampler = runner.train_dataloader.sampler
        if self.stage(progress_of(runner)) == 'fine_tune':
            sampler.set_assignment(torch.zeros_like(self.assignment), 1)
        print_log(f'{sampler.unreached():.1%} of the images are not drawn in this epoch', logger='current')

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        frozen_by = model_of(runner).backbone_frozen_by
        (frozen_by.add if self._freezes(progress_of(runner)) else frozen_by.discard)('DivisionHook')

    def learner_of_step(self, runner, batch_idx: int, data_batch: Any) -> int | None:
        """Return the learner of the batch's cluster in the divide stage, None otherwise (the merged embedding)."""
        progress = progress_of(runner)
        # A single learner is the whole embedding.
        if self.stage(progress) != 'divide' or model_of(runner).neck.num_active == 1:
            return None
        # From the sampler, the same on all ranks: an unreadable image's substitute may be of another cluster.
        learner = runner.train_dataloader.sampler.cluster_of_step(progress.epoch, batch_idx)
        indices = indices_of(data_batch['data_samples'])
        if (indices < 0).any():
            raise RuntimeError('divide and conquer needs the sample_idx of every data sample, and one has none')
        found = self.assignment[indices]
        if 2 * int((found == learner).sum()) <= len(found):
            raise RuntimeError(
                f'batch {batch_idx} of epoch {progress.epoch} is of cluster {learner}, but its images are of '
                f'{found.unique().tolist()}: does the loader draw from ClusterPKSampler?'
            )
        return learner

    def _freezes(self, progress: Progress) -> bool:
        stage = self.stage(progress)
        if stage in ('divide', 'joint'):
            since = progress.epoch - self.stages.warm_up
            return self.num_clusters > 1 and since % self.interval < self.freeze_backbone
        return stage == 'fine_tune' and not self.fine_tune_backbone

    def run_state(self) -> dict[str, Tensor]:
        """Return the division."""
        parts = dict(clusters=self.clusters, assignment=self.assignment)
        return {name: value for name, value in parts.items() if value is not None}

    def load_run_state(self, state: dict[str, Tensor]) -> None:
        """Restore what :meth:`run_state` returned; nothing is clustered because of a restart."""
        self.clusters = state['clusters'].cpu() if 'clusters' in state else None
        self.assignment = state['assignment'].cpu() if 'assignment' in state else None
