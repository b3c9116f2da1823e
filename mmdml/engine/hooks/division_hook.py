"""Divide and conquer: who learns from which images, and when that changes."""

from collections.abc import Callable
from typing import Any

import torch
from mmengine.dist import broadcast, get_world_size, is_main_process
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.optim import OptimWrapperDict
from mmengine.runner import EpochBasedTrainLoop
from torch import Tensor
from torch.nn import functional as F

from mmdml.engine.division import Divider, Stages, num_clusters_at
from mmdml.engine.model_of import model_of
from mmdml.engine.sweep import Embeddings
from mmdml.registry import HOOKS
from mmdml.structures.progress import Progress
from mmdml.utils.seeding import Stream, derive_seed

_VECTORS = ('features', 'embedding')
_FAILED = -2


@HOOKS.register_module()
class DivisionHook(Hook):
    """Cluster the training images, match the clusters to the learners, and hand both to sampler and head.

    Sweep -> k-means -> matching by maximum overlap -> assignment. The sampler draws single-cluster batches from it, and
    the head trains the learner of the batch's cluster. Clusters are made anew every ``interval`` epochs from the end of
    the warm-up until the fine-tuning; see :class:`~mmdml.engine.division.Stages` for the stages and
    :class:`~mmdml.engine.division.Divider` for the clusters.

    Args:
        num_clusters: K, as in neck and head; a power of two with ``hierarchical``.
        divide_until: first epoch that trains the merged embedding (on clusters still).
        fine_tune_from: first epoch on batches of the whole training set; None for never.
        warm_up: epochs on the full embedding and the whole training set before the first division.
        interval: T, epochs between two clusterings, >= 1.
        hierarchical: 1, 2, 4, ... clusters, one doubling every ``interval`` epochs (TPAMI 2021), instead of K at once.
        cluster_on: 'features' (pooled, of the backbone) or 'embedding' (merged); unit vectors in both cases.
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
        ValueError: for values out of range, an iteration-based loop, a sampler other than ``ClusterPKSampler``, another
            number of learners in neck or head, divided weights without their clusters, or a distributed run without
            ``find_unused_parameters=True``.

    Config::

        custom_hooks = [
            dict(type='DivisionHook', num_clusters=8, divide_until=80, fine_tune_from=190, interval=2)]
    """

    priority = 'BELOW_NORMAL'
    embedding_source = 'sweep'
    sweep_transform = 'test'

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
        trials: int = 30,
        freeze_backbone: int = 0,
        fine_tune_backbone: bool = True,
    ) -> None:
        if cluster_on not in _VECTORS:
            raise ValueError(f'cluster_on must be one of {list(_VECTORS)}, got {cluster_on!r}')
        for name, value in (('num_clusters', num_clusters), ('interval', interval)):
            if value < 1:
                raise ValueError(f'{name} must be at least 1, got {value}')
        if seed is not None and not 0 <= seed < 2**30:
            raise ValueError(f'seed must be in 0..2^30-1, got {seed}')
        if not 0 <= freeze_backbone < interval:
            raise ValueError(
                f'freeze_backbone must be in 0..{interval - 1}, fewer epochs than interval={interval}, '
                f'got {freeze_backbone}'
            )
        if hierarchical:
            num_clusters_at(0, num_clusters, interval)  # refuses what is no power of two
        self.num_clusters = num_clusters
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
        if self.clusters is None and model.neck.num_active > 1:
            raise ValueError(
                f'the weights are divided among {model.neck.num_active} learners, but their clusters are not known: '
                'resume the run that made them, or start from weights without a division'
            )
        if self.hierarchical and model.head.is_sliced:
            raise ValueError('the proxies of slices are cut for all learners at once: not for hierarchical=True')
        if get_world_size() > 1 and not runner.cfg.get('find_unused_parameters', False):
            raise ValueError('learners idle in turn: a distributed run needs find_unused_parameters=True in the config')
        self._runner = runner

    def stage(self, progress: Progress) -> str:
        """'warm_up', 'divide', 'joint' or 'fine_tune'."""
        return self.stages.at(progress.epoch)

    def wants_embeddings(self, progress: Progress) -> bool:
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
        """Divide."""
        neck = model_of(self._runner).neck
        indices = embeddings.indices.cpu()
        old = None if self.clusters is None else self.clusters[indices]
        num_old = 1 if old is None else neck.num_active
        target = self._target(progress)

        def divide() -> Tensor:
            features = self.cluster_on == 'features'
            vectors = (F.normalize(embeddings.features, dim=1) if features else neck.unit(embeddings.raw)).cpu()
            labels = embeddings.labels.cpu()
            seed = derive_seed(Stream.KMEANS, progress.seed) % 2**30 if self.seed is None else self.seed
            doubles = self.hierarchical and target == 2 * num_old
            clusters = self.divider.cluster(vectors, labels, target, seed, old, num_old, doubles)
            division = self.divider.settle(clusters, labels, vectors, target, old, num_old)
            print_log(str(division), logger='current')
            return torch.stack([division.clusters, division.assignment])

        divided = _on_main_process((2, len(indices)), divide)
        # Images without a row (unreadable ones) have no cluster.
        everywhere = torch.full((len(self._runner.train_dataloader.dataset),), -1)
        self.clusters, self.assignment = (everywhere.index_copy(0, indices, column) for column in divided)
        self._grow(neck, target)
        self._runner.train_dataloader.sampler.set_assignment(self.assignment, target)

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
        model = model_of(runner)
        if runner.epoch == self.stages.divide_until and model.neck.num_active > 1:
            model.head.join(model.neck.num_active)
            self._forget([*model.head.loss_fn.parameters()] if model.head.learner_losses else [])
        if self.stage(Progress.of(runner)) == 'fine_tune' and self.assignment is not None:
            everything = torch.zeros_like(self.assignment)
            runner.train_dataloader.sampler.set_assignment(everything, 1)
        if self.assignment is not None:
            missed = runner.train_dataloader.sampler.unreached()
            print_log(f'{missed:.1%} of the images are not drawn in this epoch', logger='current')

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        model, progress = model_of(runner), Progress.of(runner)
        head = model.head
        head.learner = None
        if self._freezes(progress):
            model.backbone_frozen_by.add('DivisionHook')
        else:
            model.backbone_frozen_by.discard('DivisionHook')
        # A single learner is the whole embedding.
        if self.stage(progress) != 'divide' or model.neck.num_active == 1:
            return
        # From the sampler, the same on all ranks: an unreadable image's substitute may be of another cluster.
        learner = runner.train_dataloader.sampler.cluster_of_step(progress.epoch, batch_idx)
        found = self.assignment[[sample.sample_idx for sample in data_batch['data_samples']]]
        if 2 * int((found == learner).sum()) <= len(found):
            raise RuntimeError(
                f'batch {batch_idx} of epoch {progress.epoch} is of cluster {learner}, but its images are of '
                f'{found.unique().tolist()}: does the loader draw from ClusterPKSampler?'
            )
        head.learner = learner

    def _freezes(self, progress: Progress) -> bool:
        stage = self.stage(progress)
        if stage in ('divide', 'joint'):
            since = progress.epoch - self.stages.warm_up
            return self.num_clusters > 1 and since % self.interval < self.freeze_backbone
        return stage == 'fine_tune' and not self.fine_tune_backbone

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


def _on_main_process(shape: tuple[int, ...], function: Callable[[], Tensor]) -> Tensor:
    """int64 >= -1 that one process computes for all; what goes wrong there stops the others, too."""
    result, error = torch.full(shape, _FAILED), None
    if is_main_process():
        try:
            result = function()
        except Exception as caught:  # the others wait for the result
            error = caught
    broadcast(result)
    if error is not None:
        raise error
    if (result == _FAILED).any():
        raise RuntimeError('the division failed on rank 0: see its message')
    return result
