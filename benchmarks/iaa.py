"""What IAA, its losses and its sampler cost on one core.

    python benchmarks/iaa.py                          # all sections, into docs/benchmarks/iaa.md
    python benchmarks/iaa.py --sections losses        # only some; the other sections of the page stay
    python benchmarks/iaa.py --device cuda            # statistics and correction on a GPU, printed; no page

Every number is the median of five runs (three for ResNet-50) of process CPU time with one thread, on random data.
"""

import os

# Before torch is imported: its thread pools are sized once.
os.environ['OMP_NUM_THREADS'] = os.environ['MKL_NUM_THREADS'] = '1'

import functools
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from common import (
    SOP_CLASSES,
    SOP_IMAGES,
    Page,
    Table,
    class_labels,
    cpu_seconds,
    device_seconds,
    milliseconds,
    repeated_cpu_seconds,
)
from torch import Tensor
from torch.nn import functional as F

from mmdml.registry import DATA_SAMPLERS, MODELS
from mmdml.structures import PairBatch, Progress, Rows, StepContext

DIM, BATCH, COPIES = 512, 128, 3


def clustered(labels: Tensor, seed: int = 0) -> Tensor:
    """``(N, DIM)`` rows around one center per class."""
    random = torch.Generator().manual_seed(seed)
    centers = torch.randn(int(labels.max()) + 1, DIM, generator=random)
    return centers[labels] + 2 * torch.randn(len(labels), DIM, generator=random)


def two_products(matrix: Tensor, block: int = 1024) -> None:
    """The two C x C x D products that neighbor correction cannot do without, and nothing else."""
    for _ in range(2):
        for rows in matrix.split(block):
            rows @ matrix.t()


# ---- sections --------------------------------------------------------------------------------------------------------


def time_statistics(
    seconds: Callable[[Callable[[], Any]], float], device: str = 'cpu', scale: float = 1.0
) -> tuple[float, float, float]:
    """Seconds of class statistics, of the two bare products, and of the neighbor correction, at the size of SOP."""
    from mmdml.models.generators import class_statistics, correct_variance

    classes = int(SOP_CLASSES * scale)
    labels = torch.from_numpy(class_labels(int(SOP_IMAGES * scale), classes, 2, 12))
    embeddings, labels = clustered(labels).to(device), labels.to(device)
    count, mean, var = class_statistics(embeddings, labels, classes)
    return (
        seconds(lambda: class_statistics(embeddings, labels, classes)),
        seconds(lambda: two_products(mean)),
        seconds(lambda: correct_variance(count, mean, var)),
    )


def statistics_section() -> Table:
    """Class statistics and neighbor correction at the size of Stanford Online Products."""
    gathered, products, corrected = time_statistics(cpu_seconds)
    return ('what', 'CPU time', 'beside', 'aim'), [
        ('`class_statistics`', f'{gathered:.2f} s', '', '< 1 s'),
        ('two bare C x C x D products', f'{products:.2f} s', '', ''),
        ('`correct_variance`', f'{corrected:.2f} s', f'{corrected / products:.2f} x the two products', '<= 2 x'),
    ]


def generation_section() -> Table:
    """Generation (B = 128, D = 512, M = 3) and its use, beside a ResNet-50 step at 224 x 224."""
    labels = torch.arange(BATCH // 4).repeat_interleave(4)
    raw = clustered(labels).requires_grad_()
    generator = MODELS.build(dict(type='IAAGenerator', num_copies=COPIES, lam=0.8, onset=0))
    var = torch.rand(SOP_CLASSES, DIM) + 0.5
    count = torch.full((SOP_CLASSES,), 5)
    state = dict(count=count, mean=torch.zeros_like(var), var=var, corrected=var, seen=count)
    generator.estimator.load_run_state(dict(state, received=True, scales={}))
    progress = Progress(iter=10, max_iters=100, epoch_length=10)
    loss = MODELS.build(dict(type='MultiSimilarityLoss'))

    anchors = Rows.of_batch(raw, labels)

    def step(with_copies: bool) -> None:
        rows = Rows.cat([anchors, generator(anchors, StepContext(progress))]) if with_copies else anchors
        unit = F.normalize(rows.embeddings)
        pairs = PairBatch(Rows(unit[:BATCH], labels, anchors.views), Rows(unit, rows.labels, rows.views))
        raw.grad = None
        loss(pairs).backward()

    generation = repeated_cpu_seconds(lambda: generator(anchors, StepContext(progress)))
    use = repeated_cpu_seconds(lambda: step(True)) - repeated_cpu_seconds(lambda: step(False))
    resnet, images = resnet_step()
    whole = resnet * BATCH / images
    scaled = f'{BATCH / images:.0f} x a step of {images} images'
    return ('what', 'CPU time', 'share of the ResNet-50 step', 'aim'), [
        ('ResNet-50 forward and backward, B = 128', f'{whole:.1f} s ({scaled})', '', ''),
        ('generation', milliseconds(generation), f'{generation / whole:.3%}', ''),
        ('generation and use (MS loss with M = 3 less M = 0)', milliseconds(use), f'{use / whole:.3%}', '< 3 %'),
    ]


def resnet_step(images: int = 8) -> tuple[float, int]:
    """Seconds of one forward and backward pass of mmpretrain's ResNet-50, and its number of images."""
    network = MODELS.build(dict(type='mmpretrain.ResNet', depth=50))
    network.train()
    pictures = torch.randn(images, 3, 224, 224)
    return cpu_seconds(lambda: network(pictures)[-1].mean().backward(), repeats=3), images


def losses_section() -> Table:
    """A loss, forward and backward from raw embeddings (D = 512, 4 images a class), beside pytorch-metric-learning."""
    from pytorch_metric_learning import losses, miners
    from pytorch_metric_learning.distances import CosineSimilarity, LpDistance

    contrastive = losses.ContrastiveLoss(pos_margin=0.8, neg_margin=0.5, distance=CosineSimilarity())
    triplet = losses.TripletMarginLoss(margin=0.2, distance=LpDistance())
    others: dict[str, tuple[Any, Any]] = {
        'ContrastiveLoss': (contrastive, None),
        'TripletLoss': (triplet, miners.BatchHardMiner()),
        'MultiSimilarityLoss': (
            losses.MultiSimilarityLoss(alpha=2, beta=40, base=0.5),
            miners.MultiSimilarityMiner(0.1),
        ),
    }
    lines = []
    for name, (other, miner) in others.items():
        ours = MODELS.build(dict(type=name))
        for batch in (128, 512):
            for copies in (0, COPIES):
                own, theirs = time_losses(ours, other, miner, batch, copies)
                miner_name = f' + `{type(miner).__name__}`' if miner else ''
                lines.append(
                    (f'`{name}`', batch, copies, milliseconds(own), milliseconds(theirs))
                    + (f'`{type(other).__name__}`{miner_name}', f'{own / theirs:.2f}')
                )
    return ('loss', 'B', 'M', 'mmdml', 'PML', 'in PML', 'ratio (aim <= 1)'), lines


def time_losses(ours: Any, other: Any, miner: Any, batch: int, copies: int) -> tuple[float, float]:
    """Seconds of our loss and of pytorch-metric-learning's, on the same anchors and candidates."""
    labels = torch.arange(batch // 4).repeat_interleave(4)
    raw = clustered(labels).requires_grad_()
    noise = torch.randn(copies * batch, DIM)
    all_labels = labels.repeat(1 + copies)
    views = torch.arange(batch)

    def units() -> tuple[Tensor, Tensor]:
        raw.grad = None
        unit = F.normalize(raw)
        if not copies:
            return unit, unit
        return unit, torch.cat([unit, F.normalize(raw.repeat(copies, 1) + noise)])

    def own() -> None:
        unit, candidates = units()
        ours(PairBatch(Rows(unit, labels, views), Rows(candidates, all_labels, views.repeat(1 + copies)))).backward()

    def theirs() -> None:
        unit, candidates = units()
        reference = dict(ref_emb=candidates, ref_labels=all_labels) if copies else {}
        mined = miner(unit, labels, **reference) if miner else None
        other(unit, labels, mined, **reference).backward()

    return repeated_cpu_seconds(own), repeated_cpu_seconds(theirs)


def sampler_section() -> Table:
    """The order of one epoch (B = 128, K = 4): drawn, and drawn and handed to the loader index by index."""
    lines = []
    for images, classes, high, aim in ((SOP_IMAGES, SOP_CLASSES, 12, '< 20 ms'), (1_000_000, 100_000, 20, '< 1 s')):
        dataset = SimpleNamespace(labels=class_labels(images, classes, 2, high))
        for preset in ('cover', 'independent'):
            config = dict(type='PKSampler', batch_size=BATCH, images_per_class=4, preset=preset, seed=0)
            sampler = DATA_SAMPLERS.build(config, default_args=dict(dataset=dataset))
            # The first index is there once the whole order has been drawn.
            drawn = cpu_seconds(lambda sampler=sampler: next(iter(sampler)))
            read = cpu_seconds(lambda sampler=sampler: sum(1 for _ in sampler))
            lines.append((f'{images:,}', f'{classes:,}', preset, milliseconds(drawn), milliseconds(read), aim))
    return ('images', 'classes', 'preset', 'drawn', 'drawn and read', 'aim (drawn)'), lines


SECTIONS: dict[str, Callable[[], Table]] = {
    'statistics': statistics_section,
    'generation': generation_section,
    'losses': losses_section,
    'sampler': sampler_section,
}


HEADING = '# What IAA costs\n\nMedian process CPU time of five runs on one core (three for ResNet-50), random data.\n'


def main() -> int:
    page = Page('iaa', HEADING, SECTIONS)
    parser = page.parser(__doc__)
    parser.add_argument('--device', help='time statistics and correction there, and print them; no page is written')
    parser.add_argument('--scale', type=float, default=1.0, help='of the numbers of images and classes on --device')
    args = parser.parse_args()
    if args.device:
        timer = functools.partial(device_seconds, device=args.device)
        gathered, products, corrected = time_statistics(timer, args.device, args.scale)
        print(f'two bare C x C x D products on {args.device}: {products:.4f} s')
        print(f'class_statistics and correct_variance: {gathered:.4f} + {corrected:.4f} s')
        print(f'{(gathered + corrected) / products:.2f} x the two products (aim 3)')
        return 0
    page.measure(args.sections, args.output)
    return 0


if __name__ == '__main__':
    sys.exit(main())
