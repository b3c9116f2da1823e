"""What divide and conquer costs on one core: dividing, k-means, sweeps, and a training step beside one learner.

    python benchmarks/divide_and_conquer.py                       # all, into docs/benchmarks/divide_and_conquer.md
    python benchmarks/divide_and_conquer.py --sections step       # only some; the other sections of the page stay
    python benchmarks/divide_and_conquer.py --quick               # k-means of 256 instead of 2048 dimensions, no page

Times are process CPU time with one thread. What is compared takes turns in one process.
"""

import os

# Before torch is imported: its thread pools are sized once.
os.environ['OMP_NUM_THREADS'] = os.environ['MKL_NUM_THREADS'] = '1'

import functools
import statistics
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import torch
from common import (
    REPO,
    SOP_CLASSES,
    SOP_IMAGES,
    Page,
    Table,
    alternating_cpu_seconds,
    class_labels,
    cpu_seconds,
    milliseconds,
)
from torch import Tensor
from torch.nn import functional as F

from mmdml.engine.division import drop_singletons, match_clusters, move_singletons
from mmdml.engine.model_of import progress_of
from mmdml.functional.kmeans import cluster_means, kmeans
from mmdml.registry import DATA_SAMPLERS, MODELS
from mmdml.structures import StepContext

CLUSTERS, BATCH, PER_CLASS, CHANNELS, DIM = 8, 128, 4, 2048, 128
ITERATIONS, SEED = 100, 1234
#: The runs that count sweeps: classes, images of each, and batches of an epoch.
CLASSES, EACH, EPOCH = 32, 8, 16


# ---- dividing --------------------------------------------------------------------------------------------------------


def sop_clusters(labels: np.ndarray, seed: int = 0) -> Tensor:
    """``(N,)`` clusters: an image is in its class's cluster with probability 0.7, else in any other."""
    random = np.random.default_rng(seed)
    home = random.integers(0, CLUSTERS, labels.max() + 1)[labels]
    away = random.random(len(labels)) >= 0.7
    return torch.from_numpy((home + away * random.integers(1, CLUSTERS, len(labels))) % CLUSTERS)


def division_section() -> Table:
    """What a division takes besides sweep and k-means, and the order of an epoch, at SOP size.

    59,551 images of 11,318 classes (2 to 12 images), K = 8 clusters, 70 % of a class in one of them; batches of 128
    with 4 images a class. Medians of five runs.
    """
    labels = class_labels(SOP_IMAGES, SOP_CLASSES, 2, 12)
    found = sop_clusters(labels)
    random = np.random.default_rng(1)
    # One image in ten changes its cluster, and all clusters their names.
    names = torch.from_numpy(random.permutation(CLUSTERS))
    elsewhere = torch.from_numpy(random.integers(0, CLUSTERS, SOP_IMAGES))
    old = names[torch.where(torch.from_numpy(random.random(SOP_IMAGES) < 0.1), elsewhere, found)]
    vectors = F.normalize(torch.randn(SOP_IMAGES, CHANNELS, generator=torch.Generator().manual_seed(0)))

    class_ids = torch.from_numpy(labels)
    clusters = match_clusters(found, old, CLUSTERS)
    dropped, means = drop_singletons(clusters, class_ids), cluster_means(vectors, clusters, CLUSTERS)
    config = dict(type='ClusterPKSampler', batch_size=BATCH, images_per_class=PER_CLASS, seed=0)
    sampler = DATA_SAMPLERS.build(config, default_args=dict(dataset=SimpleNamespace(labels=labels)))
    sampler.set_assignment(dropped.assignment, CLUSTERS)

    matched = cpu_seconds(lambda: match_clusters(found, old, CLUSTERS))
    drop = cpu_seconds(lambda: drop_singletons(clusters, class_ids))
    centroids = cpu_seconds(lambda: cluster_means(vectors, clusters, CLUSTERS))
    move = cpu_seconds(lambda: move_singletons(clusters, class_ids, vectors, means))
    assigned = cpu_seconds(lambda: sampler.set_assignment(dropped.assignment, CLUSTERS))
    # The first index is there once the whole order has been drawn.
    drawn = cpu_seconds(lambda: next(iter(sampler)))
    unreached = cpu_seconds(sampler.unreached)
    whole = matched + drop + assigned + drawn
    lone = f'{dropped.lone:.1%} of the images are lone'
    return ('what', 'CPU time', 'aim'), [
        ('`match_clusters`', milliseconds(matched), ''),
        (f'`drop_singletons` ({lone})', milliseconds(drop), ''),
        ('`ClusterPKSampler.set_assignment`', milliseconds(assigned), ''),
        ('order of an epoch', milliseconds(drawn), ''),
        ('**sum**', f'**{milliseconds(whole)}**', '< 50 ms'),
        ('`move_singletons`, 2048-d, instead of dropping', milliseconds(move), ''),
        ('`cluster_means`, 2048-d, which moving needs', milliseconds(centroids), ''),
        ('sum if lone images move', milliseconds(whole - drop + move + centroids), ''),
        ('`ClusterPKSampler.unreached`, for the log of every epoch', milliseconds(unreached), ''),
    ]


# ---- k-means ---------------------------------------------------------------------------------------------------------


def kmeans_table(channels: int, rounds: int) -> Table:
    """Our k-means beside the bare faiss call, on the same vectors."""
    import faiss

    faiss.omp_set_num_threads(1)
    random = torch.Generator().manual_seed(0)
    vectors = torch.randn(SOP_IMAGES, channels, generator=random)
    vectors += 0.2 * torch.randn(64, channels, generator=random)[torch.arange(SOP_IMAGES) % 64]
    vectors = F.normalize(vectors)
    found: dict[str, Any] = {}

    def ours() -> None:
        found['ours'] = kmeans(vectors, CLUSTERS, SEED, restarts=1, iterations=ITERATIONS)[0].numpy()

    def bare() -> None:
        rows = vectors.numpy()
        clustering = faiss.Clustering(channels, CLUSTERS)
        clustering.niter, clustering.seed = ITERATIONS, SEED
        clustering.max_points_per_centroid = SOP_IMAGES
        index = faiss.IndexFlatL2(channels)
        clustering.train(rows, index)
        found['bare'] = index.search(rows, 1)[1][:, 0]
        found['iterations'] = clustering.iteration_stats.size()

    times = alternating_cpu_seconds({'ours': ours, 'bare': bare}, rounds, uncounted=0)
    own, faiss_alone = (statistics.median(times[name]) for name in ('ours', 'bare'))
    same = f'{np.mean(found["ours"] == found["bare"]):.2%} of the images in the same cluster'
    return ('what', 'CPU time', 'ratio'), [
        (f'`faiss.Clustering.train` ({found["iterations"]} iterations) and `search`', f'{faiss_alone:.1f} s', ''),
        (f'`mmdml.functional.kmeans.kmeans` ({same})', f'{own:.1f} s', f'{own / faiss_alone:.3f}'),
    ]


def kmeans_section() -> Table:
    """K-means of 59,551 x 2048 into 8 clusters (100 iterations, no restart) beside the bare faiss call.

    Medians of two runs each, in turns; one thread.
    """
    return kmeans_table(CHANNELS, rounds=2)


# ---- sweeps ----------------------------------------------------------------------------------------------------------


def write_pictures(folder: Path) -> None:
    """Gray 28 x 28 noise, in one folder a class."""
    import cv2

    random = np.random.default_rng(0)
    for label in range(CLASSES):
        (folder / str(label)).mkdir(parents=True)
        for number in range(EACH):
            picture = random.integers(0, 255, (28, 28), dtype=np.uint8)
            cv2.imwrite(str(folder / str(label) / f'{number}.png'), picture)


def count_sweeps(
    config: str, pictures: Path, work_dir: Path, hook: dict[str, Any], options: dict[str, Any]
) -> tuple[list[int], list[int]]:
    """Iterations of the sweeps and of the re-clusterings of a short run: 8-channel Conv4, four learners, 8 epochs."""
    from mmengine.config import Config
    from mmengine.runner import Runner

    from mmdml.engine.hooks import DivisionHook, sweep_hook

    cfg = Config.fromfile(REPO / 'configs' / config)
    load = dict(type='LoadImageFromFile', color_type='grayscale')
    for name in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        pipeline = [load, *cfg[name].dataset.pipeline]
        cfg[name].dataset = dict(type='ImageFolder', data_root=str(pictures), split='train', pipeline=pipeline)
        cfg[name].update(num_workers=0, persistent_workers=False)
    size = CLASSES * EACH // EPOCH
    sampler = dict(type='ClusterPKSampler', batch_size=size, images_per_class=4)
    cfg.train_dataloader.update(batch_size=size, sampler=sampler)
    cfg.model.backbone.channels = cfg.model.neck.in_channels = 8
    cfg.train_cfg.update(max_epochs=8, val_interval=8)
    cfg.custom_hooks = [dict(type='DivisionHook', interval=2, divide_until=6, fine_tune_from=7, **hook)]
    cfg.merge_from_dict(dict(work_dir=str(work_dir), log_level='ERROR', experiment_name=work_dir.name, **options))
    runner = Runner.from_cfg(cfg)

    sweeps: list[int] = []
    divisions: list[int] = []
    sweep, divide = sweep_hook.sweep, DivisionHook.receive_embeddings

    def counted_sweep(*args: Any, **kwargs: Any) -> Any:
        sweeps.append(runner.iter)
        return sweep(*args, **kwargs)

    def counted_divide(self: Any, embeddings: Any, progress: Any) -> None:
        divisions.append(runner.iter)
        divide(self, embeddings, progress)

    with (
        mock.patch.object(sweep_hook, 'sweep', counted_sweep),
        mock.patch.object(DivisionHook, 'receive_embeddings', counted_divide),
    ):
        runner.train()
    return sweeps, divisions


def sweeps_section() -> Table:
    """Sweeps of the training set in runs of 8 epochs, clustered anew every T = 2 until the fine-tuning in the last one.

    A count, not a time. IAA renews its statistics every 2 epochs from its onset on. Moments are in epochs.
    """
    plain, joint = (
        'divide_and_conquer/dc-k4-warmup_margin_conv4_omniglot.py',
        'iaa/iaa_dc-k4-warmup_margin_conv4_omniglot.py',
    )
    runs = {
        'D&C': (plain, dict(), {}),
        'D&C after 2 epochs of warm-up': (plain, dict(warm_up=2), {}),
        'D&C, 1 - 2 - 4 clusters': (plain, dict(hierarchical=True), {}),
        'D&C and IAA from epoch 0': (joint, dict(), {'model.head.sources.iaa.onset': 0}),
        'D&C and IAA from 5 % of the run': (joint, dict(), {'model.head.sources.iaa.onset': 0.05}),
    }
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        pictures = Path(folder) / 'pictures'
        write_pictures(pictures)
        for number, (name, (config, hook, options)) in enumerate(runs.items()):
            work_dir = Path(folder) / f'run_{number}'
            sweeps, divisions = count_sweeps(config, pictures, work_dir, hook, options)
            lines.append(
                (name, len(divisions), in_epochs(divisions), len(sweeps), in_epochs(sweeps), sweeps.count(0))
                + (max(sweeps.count(moment) for moment in divisions),)
            )
    head = ('run', 're-clusterings', 'when', 'sweeps', 'when', 'before the first epoch (aim <= 1)')
    return (*head, 'most for one re-clustering (aim 1)'), lines


def in_epochs(iterations: list[int]) -> str:
    return ', '.join(f'{each / EPOCH:.3g}' for each in iterations)


# ---- training step ---------------------------------------------------------------------------------------------------

NECK = dict(type='DivideAndConquerEmbedding', num_learners=CLUSTERS)
HEAD = dict(type='DivideAndConquerHead')
ONE = dict(neck=dict(type='LinearEmbedding'), head=dict(type='EmbeddingHead'), optim={})
LEARNERS = {
    'K = 1': ONE,
    # What differs from the line above is noise.
    'K = 1, once more': ONE,
    'K = 8, slices': dict(neck=NECK, head=HEAD, optim={}),
    'K = 8, learned masks': dict(
        neck=dict(NECK, division='masks', learned=True),
        head=dict(HEAD, regularizers=dict(diversity=dict(type='MaskDiversity', weight=0.01))),
        optim=dict(paramwise_cfg=dict(custom_keys={'masks': dict(lr_mult=100)})),
    ),
}


class _Loader(list):
    """Ten batches, as far as a hook can see."""

    def __init__(self) -> None:
        super().__init__(range(10))


class Step:
    """A training step of a config, with other learners, on one batch of random images.

    Args:
        config: below ``configs/``; backbone, pooling, loss, miner and optimizer are taken from it.
        learners: neck, head and optimizer options.
        size: images and their height, width and channels.
    """

    def __init__(self, config: str, learners: dict[str, Any], size: tuple[int, int, int]) -> None:
        from mmengine.config import Config
        from mmengine.optim import build_optim_wrapper
        from mmpretrain.structures import DataSample

        from mmdml.engine.hooks import DivisionHook

        torch.manual_seed(0)
        cfg = Config.fromfile(REPO / 'configs' / config)
        model, images = cfg.model.to_dict(), size[0]
        channels = model['neck']['in_channels']
        model['neck'] = dict(in_channels=channels, embed_dim=DIM, **learners['neck'])
        model['head'] = dict(loss=model['head']['loss'], miner=model['head']['miner'], **learners['head'])
        self.model = MODELS.build(model).train()
        # Rate 0: the same work, and the thousandth step on this batch has the losses of the first.
        optim = {**cfg.optim_wrapper.to_dict(), **learners['optim']}
        optim['optimizer'] = dict(optim['optimizer'], lr=0.0)
        self.optim = build_optim_wrapper(self.model, optim)

        random = torch.Generator().manual_seed(0)
        pictures = torch.randint(0, 256, (images, size[2], size[1], size[1]), generator=random, dtype=torch.uint8)
        labels = (torch.arange(images) // PER_CLASS).tolist()
        samples = [DataSample(metainfo=dict(sample_idx=at)).set_gt_label(label) for at, label in enumerate(labels)]
        self.batch = dict(inputs=list(pictures), data_samples=samples)
        self.labels, self.indices = torch.tensor(labels), torch.arange(images)
        # Clusters around distinct points, as a trained backbone has them.
        self.features = torch.randn(images // PER_CLASS, channels, generator=random).repeat_interleave(PER_CLASS, 0)
        self.features += 0.5 * torch.randn(images, channels, generator=random)
        self.features.requires_grad_()

        self.hook = None
        self.turn = 0
        loader = _Loader()
        loader.sampler = SimpleNamespace(cluster_of_step=lambda epoch, step: self.turn)
        self.runner = SimpleNamespace(model=self.model, iter=0, max_iters=10, train_dataloader=loader, seed=0)
        if self.model.neck.__class__.__name__ == NECK['type']:
            self.model.neck.divide(CLUSTERS)
            self.model.head.divide(1, CLUSTERS)
            self.hook = DivisionHook(divide_until=1)
            self.hook.assignment = torch.zeros(images, dtype=torch.int64)

    def take(self, part: str) -> None:
        """Do a part of a step for the next learner."""
        if self.hook:
            self.turn = (self.turn + 1) % CLUSTERS
            self.hook.assignment.fill_(self.turn)
        self.model.step = StepContext(
            progress_of(self.runner), self.model.neck.active(self.turn) if self.hook else None
        )
        getattr(self, part)()

    def whole(self) -> None:
        """What MMEngine's loop does, with the hook that looks up the learner."""
        if self.hook:
            self.hook._runner = self.runner
            self.hook.before_train_iter(self.runner, 0, self.batch)
            self.hook.learner_of_step(self.runner, 0, self.batch)
        self.model.train_step(self.batch, self.optim)

    def neck_and_head(self) -> None:
        """From pooled features to their gradient."""
        self.features.grad = None
        self.model.zero_grad()
        step, neck = self.model.step, self.model.neck
        raw = neck(self.features, step.learner_index)
        losses = self.model.head.loss(raw, self.labels, self.indices, neck, step)
        sum(losses.values()).backward()

    def fill_gradients(self) -> None:
        """Leave the gradients of one step, for `update`: those of the active learner only."""
        self.model.zero_grad()
        losses = self.model(**self.model.data_preprocessor(self.batch, True), mode='loss')
        sum(losses.values()).backward()

    def update(self) -> None:
        """The optimizer alone."""
        self.optim.optimizer.step()


def step_lines(network: str, config: str, size: tuple[int, int, int], rounds: int, parts: int) -> list[Any]:
    """Lines of the table for one network: ``rounds`` whole steps, and ``parts`` of what the learners change in them."""
    steps = {name: Step(config, learners, size) for name, learners in LEARNERS.items()}

    def medians(part: str, count: int) -> dict[str, float]:
        calls = {name: functools.partial(step.take, part) for name, step in steps.items()}
        return {name: statistics.median(times) for name, times in alternating_cpu_seconds(calls, count).items()}

    whole = medians('whole', rounds)
    head = medians('neck_and_head', parts)
    for step in steps.values():
        step.fill_gradients()
    update = medians('update', parts)
    base = whole['K = 1']
    lines = []
    for name in steps:
        more = head[name] + update[name] - head['K = 1'] - update['K = 1']
        lines.append(
            (network, name, milliseconds(whole[name]), f'{whole[name] / base - 1:+.1%}')
            + (f'{1000 * head[name]:.2f} ms', f'{1000 * update[name]:.2f} ms', f'{more / base:+.2%}')
        )
    return lines


def step_section() -> Table:
    """A training step with K = 8 learners beside the same step with one (margin loss, distance weighting, D = 128).

    The batch is the same, the learner another one in every step; the optimizer is Adam with the groups of the configs.
    Medians over steps that take turns: 60 (Conv4) and 8 (ResNet-50) of each; for neck and head (forward and backward)
    and the optimizer alone 200 and 30. "Difference of the parts" is what these two add to the K = 1 step.
    """
    head = ('network', 'learners', 'step', 'beside K = 1 (aim <= +2 %)', 'neck and head', 'optimiser')
    return (*head, 'difference of the parts'), [
        *step_lines('Conv4, 128 x 28 x 28', 'divide_and_conquer/dc-k1_margin_conv4_omniglot.py', (128, 28, 1), 60, 200),
        *step_lines('ResNet-50, 16 x 112 x 112', 'divide_and_conquer/dc-k4_margin_r50_cub.py', (16, 112, 3), 8, 30),
    ]


HEADING = """# What divide and conquer costs

Process CPU time on one core of a machine that did other work, random data; a count for the sweeps.
"""
SECTIONS = {
    'division': division_section,
    'k-means': kmeans_section,
    'sweeps': sweeps_section,
    'step': step_section,
}


def main() -> int:
    page = Page('divide_and_conquer', HEADING, SECTIONS)
    parser = page.parser(__doc__)
    parser.add_argument('--quick', action='store_true', help='only k-means of 256 dimensions; writes no page')
    args = parser.parse_args()
    if args.quick:
        for line in kmeans_table(256, rounds=1)[1]:
            print(*line)
        return 0
    page.measure(args.sections, args.output)
    return 0


if __name__ == '__main__':
    sys.exit(main())
